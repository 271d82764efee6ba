// The objects of an execution as a tree: folders are read when they are opened, and what is written meanwhile comes in.

const PAGE = 200;
const SIZES = ["B", "KB", "MB", "GB", "TB"];

export class Tree {
  constructor(root, show) {
    this.space = root.dataset.space;
    this.files = root.dataset.files;
    this.show = show;
    this.levels = new Map();
    this.chosen = "";
    root.replaceChildren(this.level("").list);
    root.addEventListener("click", (event) => this.clicked(event));
  }

  // A folder that is read, or was: its list, its entries by key, and how much of it has been read.
  level(folder) {
    if (!this.levels.has(folder)) {
      const list = document.createElement("ul");
      this.levels.set(folder, { folder, list, entries: new Map(), reads: 0, read: 0, last: "", hasMore: true });
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
    this.end(level);
  }

  async readPages(level, count, from) {
    let offset = from;
    do {
      const query = new URLSearchParams({
        execution_id: this.space, prefix: level.folder, delimiter: "/", limit: PAGE, offset, include_metadata: "false",
      });
      const answer = await fetch(`/api/v1/storage/objects?${query}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`${answer.status} for ${level.folder || "the execution"}`);
      const page = await answer.json();
      for (const prefix of page.common_prefixes) this.put(level, prefix.slice(this.space.length + 1), null);
      for (const one of page.objects) this.put(level, one.key.slice(this.space.length + 1), one);
      offset += page.objects.length + page.common_prefixes.length;
      level.read = Math.max(level.read, offset);
      level.hasMore = page.has_more;
      const last = page.objects.at(-1);
      if (last) level.last = last.key.slice(this.space.length + 1);
    } while (level.hasMore && offset < from + count);
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
      this.put(level, folder, null);
    }
    const level = this.levels.get(folder);
    if (!level) return;
    // Behind what has been read of a long folder, there is more that isn't shown. While it is being read, nobody knows.
    if (!level.reads && level.hasMore && name > level.last && !level.entries.has(name)) return;
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

function sized(bytes) {
  let size = bytes;
  let unit = 0;
  while (size >= 1024 && unit < SIZES.length - 1) { size /= 1024; unit += 1; }
  return `${unit ? size.toFixed(1) : size} ${SIZES[unit]}`;
}
