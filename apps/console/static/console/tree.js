// The objects of an execution as a tree: folders are read when they are opened, what is written meanwhile comes in, and
// what is deleted goes.

const PAGE = 200;
// How long folders that may have become empty are collected, to be looked at together.
const DOUBT_MS = 300;
const SIZES = ["B", "KB", "MB", "GB", "TB"];

export class Tree {
  constructor(root, show) {
    this.space = root.dataset.space;
    this.files = root.dataset.files;
    this.show = show;
    this.levels = new Map();
    this.chosen = "";
    this.doubted = new Set();
    this.revived = new Set();
    this.doubting = 0;
    this.root = root;
    root.replaceChildren(this.level("").list);
    root.addEventListener("click", (event) => this.clicked(event));
  }

  // A folder that is read, or was: its list, its entries by key, how much of it has been read; and of the reads that are
  // under way, what they have listed, and the etags of what has gone since.
  level(folder) {
    if (!this.levels.has(folder)) {
      const list = document.createElement("ul");
      this.levels.set(folder, {
        folder, list, entries: new Map(), reads: 0, read: 0, last: "", hasMore: true, listed: new Set(), gone: new Set(),
      });
    }
    return this.levels.get(folder);
  }

  // Reads again all that has been read: the truth, after which events go on.
  async reload() {
    await Promise.all([...this.levels.values()].map((level) => this.read(level, Math.max(level.read, PAGE), 0)));
  }

  async read(level, count, from) {
    level.reads += 1;
    try {
      await this.readPages(level, count, from);
    } finally {
      level.reads -= 1;
    }
    if (level.reads) return;
    if (!from) this.prune(level);
    level.listed.clear();
    level.gone.clear();
    this.end(level);
  }

  // What was shown and isn't listed, as far as has been read, was deleted while nobody told.
  prune(level) {
    const hasObjects = [...level.listed].some((name) => !name.endsWith("/"));
    for (const name of [...level.entries.keys()]) {
      const isRead = !level.hasMore || (name.endsWith("/") ? hasObjects : name <= level.last);
      if (isRead && !level.listed.has(name)) this.remove(level, name);
    }
  }

  async readPages(level, count, from) {
    let offset = from;
    do {
      const page = await this.list(level.folder, PAGE, offset);
      for (const prefix of page.common_prefixes) this.listed(level, prefix.slice(this.space.length + 1), null);
      for (const one of page.objects) this.listed(level, one.key.slice(this.space.length + 1), one);
      offset += page.objects.length + page.common_prefixes.length;
      level.read = Math.max(level.read, offset);
      level.hasMore = page.has_more;
      const last = page.objects.at(-1);
      if (last) level.last = last.key.slice(this.space.length + 1);
    } while (level.hasMore && offset < from + count);
  }

  async list(folder, limit, offset) {
    const query = new URLSearchParams({
      execution_id: this.space, prefix: folder, delimiter: "/", limit, offset, include_metadata: "false",
    });
    const answer = await fetch(`/api/v1/storage/objects?${query}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`${answer.status} for ${folder || "the execution"}`);
    return answer.json();
  }

  listed(level, name, one) {
    if (level.gone.has(one?.etag)) return;
    level.listed.add(name);
    this.put(level, name, one);
  }

  // Takes away an object that has just been deleted; and the folders that have become empty with it.
  deleted(one) {
    const name = one.key.slice(this.space.length + 1);
    const steps = name.split("/");
    let folder = "";
    for (const step of steps.slice(0, -1)) {
      if (!this.levels.has(folder + step + "/")) { this.doubt(folder + step + "/"); return; }
      folder += `${step}/`;
    }
    const level = this.levels.get(folder);
    // A list that is under way may still have it.
    if (level.reads) level.gone.add(one.etag);
    // One with another etag was written since.
    if (level.entries.get(name)?.etag === one.etag) this.remove(level, name);
    if (name === this.chosen) this.show(this.link(name));
  }

  remove(level, name) {
    const { item } = level.entries.get(name);
    if (item.contains(document.activeElement)) {
      const beside = item.nextElementSibling ?? item.previousElementSibling ?? item.parentElement.closest("details");
      (beside?.querySelector("a, summary, button") ?? this.root).focus();
    }
    item.remove();
    level.entries.delete(name);
    for (const folder of [...this.levels.keys()]) if (name.endsWith("/") && folder.startsWith(name)) this.levels.delete(folder);
    // What follows in the list has moved up.
    level.read = Math.max(level.read - 1, 0);
    if (level.entries.size || level.reads) return;
    if (level.folder) this.doubt(level.folder);
    else if (level.hasMore) this.read(level, PAGE, 0);
    else this.end(level);
  }

  // Looks, soon, whether there is still anything in a folder.
  doubt(folder) {
    this.doubted.add(folder);
    this.doubting ||= setTimeout(async () => {
      const asked = [...this.doubted];
      this.doubted.clear();
      this.revived.clear();
      await Promise.all(asked.map((one) => this.look(one).catch((error) => console.warn(error))));
      this.doubting = 0;
      if (this.doubted.size) this.doubt(this.doubted.values().next().value);
    }, DOUBT_MS);
  }

  async look(folder) {
    const above = this.levels.get(above_of(folder));
    if (!above?.entries.has(folder)) return;
    const page = await this.list(folder, 1, 0);
    // A list that is under way may put it in once more.
    if (above.reads) { this.doubted.add(folder); return; }
    const own = this.levels.get(folder);
    if (page.total) { if (own && !own.entries.size) await this.read(own, PAGE, 0); return; }
    if (above.entries.has(folder) && !own?.entries.size && !this.revived.has(folder)) this.remove(above, folder);
  }

  // Takes an object that has just been written: into its folder, if that is read, else the folder on the way to it.
  written(one) {
    const name = one.key.slice(this.space.length + 1);
    const steps = name.split("/");
    let folder = "";
    for (const step of steps.slice(0, -1)) {
      const level = this.levels.get(folder);
      if (!level) return;
      folder += `${step}/`;
      if (level.reads) level.listed.add(folder);
      if (this.doubting) this.revived.add(folder);
      this.put(level, folder, null);
    }
    const level = this.levels.get(folder);
    if (!level) return;
    // Behind what has been read of a long folder, there is more that isn't shown. While it is being read, nobody knows.
    if (!level.reads && level.hasMore && name > level.last && !level.entries.has(name)) return;
    if (level.reads) level.listed.add(name);
    this.put(level, name, one, true);
    if (name === this.chosen) this.show(this.link(name));
  }

  // Shows an entry once, whether it was listed, told or both; the newer of two is what it is.
  put(level, name, one, isFresh = false) {
    const known = level.entries.get(name);
    const written = one ? one.timestamp ?? one.modified_at : "";
    if (known && (!one || known.written > written || known.etag === one.etag)) return;
    const item = one ? this.file(name, one, written) : this.folder(name);
    if (isFresh) item.firstElementChild.classList.add("fresh");
    level.entries.set(name, { item, written, etag: one?.etag });
    if (known) known.item.replaceWith(item);
    else this.insert(level, name, item, !one);
    if (name === this.chosen) item.firstElementChild.setAttribute("aria-current", "true");
  }

  // Folders first, then objects, each by name.
  insert(level, name, item, isFolder) {
    item.dataset.order = `${isFolder ? 0 : 1}${name}`;
    const after = [...level.list.children].find((other) => (other.dataset.order ?? "2") > item.dataset.order);
    level.list.insertBefore(item, after ?? null);
  }

  folder(name) {
    const item = document.createElement("li");
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = `${base(name)}/`;
    details.append(summary);
    details.addEventListener("toggle", () => this.opened(name, details), { once: true });
    item.append(details);
    return item;
  }

  async opened(name, details) {
    const level = this.level(name);
    details.append(level.list);
    try {
      await this.read(level, PAGE, 0);
    } catch (error) {
      this.levels.delete(name);
      level.list.remove();
      details.open = false;
      details.addEventListener("toggle", () => this.opened(name, details), { once: true });
      console.warn(error);
    }
  }

  file(name, one, written) {
    const item = document.createElement("li");
    const line = document.createElement("div");
    line.className = "file";
    const link = document.createElement("a");
    link.href = this.link(name);
    link.dataset.object = name;
    link.textContent = base(name);
    const size = document.createElement("span");
    size.className = "size";
    size.textContent = sized(one.content_length);
    const time = document.createElement("time");
    time.className = "time";
    time.dateTime = written;
    time.textContent = `${written.slice(11, 19)}Z`;
    time.title = written;
    line.append(link, size, time);
    item.append(line);
    item.dataset.order = `1${name}`;
    return item;
  }

  link(name) {
    return `${this.files}?object=${encodeURIComponent(name)}`;
  }

  end(level) {
    level.list.querySelector(":scope > .more")?.remove();
    if (!level.hasMore && level.entries.size) return;
    const item = document.createElement("li");
    item.className = "more";
    if (level.hasMore) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "plain";
      button.textContent = "Show more…";
      button.addEventListener("click", () => this.read(level, PAGE, level.read));
      item.append(button);
    } else {
      item.textContent = "Nothing is stored yet.";
    }
    level.list.append(item);
  }

  clicked(event) {
    const link = event.target.closest("a[data-object]");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    for (const one of document.querySelectorAll(".tree .file[aria-current]")) one.removeAttribute("aria-current");
    link.parentElement.setAttribute("aria-current", "true");
    this.chosen = link.dataset.object;
    this.show(link.href, true);
  }
}

function base(name) {
  return name.replace(/\/$/, "").split("/").pop();
}

function above_of(folder) {
  return folder.slice(0, folder.lastIndexOf("/", folder.length - 2) + 1);
}

function sized(bytes) {
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && unit < SIZES.length - 1) { size /= 1024; unit += 1; }
  return `${unit ? size.toFixed(1) : size} ${SIZES[unit]}`;
}
