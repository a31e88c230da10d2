// The list of events: only the rows that are seen are there. Filters and search say which ones.

const ROW_HEIGHT = 24;

class EventList {
  constructor() {
    this.box = $("list");
    this.sizer = this.box.firstElementChild;
    this.hidden = new Set(["audio"]);
    this.rows = new Map();
    this.query = "";
    this.texts = null;
    this.box.addEventListener("scroll", () => this.later(), { passive: true });
    this.box.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) choose(Number(row.dataset.event));
    });
    this.box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.later()).observe(this.box);
    events.texts.then((texts) => {
      this.texts = texts;
      for (const row of this.rows.values()) row.remove();
      this.rows.clear();
      this.later();
      if (this.query) this.search(this.query);
    });
    this.makeFilters();
    this.filter();
  }

  makeFilters() {
    const counts = new Uint32Array(FAMILIES.length);
    for (const family of events.families) counts[family]++;
    FAMILIES.forEach(([name], family) => {
      if (!counts[family]) return;
      const button = element(
        "button",
        { type: "button", "data-family": name, "aria-pressed": String(!this.hidden.has(name)) },
        name,
      );
      button.append(element("small", {}, numberText(counts[family])));
      button.addEventListener("click", () => {
        if (!this.hidden.delete(name)) this.hidden.add(name);
        button.setAttribute("aria-pressed", String(!this.hidden.has(name)));
        this.filter();
      });
      $("filters").append(button);
    });
  }

  /** Work out which events are shown: here, and as ticks in the lanes. */
  filter() {
    const off = FAMILIES.map(([name]) => this.hidden.has(name));
    const kept = [];
    for (let n = 0; n < events.count; n++) {
      const listed = this.found ? this.found[n] : !off[events.families[n]];
      // audio is left out of the list, but not of the lanes, where it takes no room
      lanes.shown[n] =
        this.found?.[n] || !off[events.families[n]] || FAMILIES[events.families[n]][0] === "audio" ? 1 : 0;
      if (listed) kept.push(n);
    }
    this.kept = Uint32Array.from(kept);
    lanes.found = this.found ?? null;
    this.sizer.style.height = `${Math.max(1, this.kept.length) * ROW_HEIGHT}px`;
    this.later();
    view.draw();
    const small = $("tab-events").querySelector("small") ?? $("tab-events").appendChild(element("small"));
    small.textContent =
      this.kept.length === events.count
        ? numberText(events.count)
        : `${numberText(this.kept.length)} of ${numberText(events.count)}`;
  }

  /** Find a text in what events are called and in their JSON; return how many have it. */
  search(query) {
    this.query = query;
    if (!query) this.found = null;
    else {
      const wanted = new RegExp(query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu");
      const named = events.types.map((type) => wanted.test(type));
      this.found = new Uint8Array(events.count);
      for (let n = 0; n < events.count; n++) {
        this.found[n] = named[events.kinds[n]] || (this.texts && wanted.test(this.texts[n] ?? "")) ? 1 : 0;
      }
    }
    for (const button of $("filters").children) button.disabled = Boolean(query); // all are searched
    this.filter();
    this.box.scrollTop = 0;
    return this.found ? this.kept.length : 0;
  }

  /** Return where an event is in the list, or where it would be. */
  place(event) {
    return firstNot(this.kept.length, (n) => this.kept[n] < event);
  }

  /** Return the event of the list that comes next, or came before. */
  step(event, by) {
    const place = this.place(event);
    const there = this.kept[place] === event;
    const next = by > 0 ? (there ? place + by : place) : place + by;
    return this.kept[Math.min(Math.max(next, 0), this.kept.length - 1)] ?? -1;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_HEIGHT) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[event.key];
    let next;
    if (by) next = view.selected < 0 ? this.kept[0] : this.step(view.selected, by);
    else if (event.key === "Home") next = this.kept[0];
    else if (event.key === "End") next = this.kept.at(-1);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (next >= 0) choose(next);
  }

  /** Bring an event into view. */
  reveal(event) {
    const top = this.place(event) * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight)
      this.box.scrollTop = top + ROW_HEIGHT - clientHeight;
    this.later();
  }

  later() {
    this.pending ||= requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.box.clientHeight) return;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(
      this.kept.length,
      Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW_HEIGHT) + 4,
    );
    const wanted = new Map();
    for (let place = first; place < last; place++) wanted.set(this.kept[place], place);
    for (const [event, row] of this.rows) {
      if (wanted.has(event)) continue;
      row.remove();
      this.rows.delete(event);
    }
    for (const [event, place] of wanted) {
      let row = this.rows.get(event);
      if (!row) {
        row = this.row(event);
        this.rows.set(event, row);
        this.sizer.append(row);
      }
      row.style.transform = `translateY(${place * ROW_HEIGHT}px)`;
      row.setAttribute("aria-posinset", place + 1);
      row.setAttribute("aria-setsize", this.kept.length);
      row.setAttribute("aria-selected", String(event === view.selected));
    }
    const chosen = this.rows.get(view.selected);
    if (chosen) this.box.setAttribute("aria-activedescendant", chosen.id);
    else this.box.removeAttribute("aria-activedescendant");
    this.none?.remove();
    this.none = null;
    if (!this.kept.length)
      this.sizer.append(
        (this.none = element(
          "p",
          { class: "empty" },
          this.query ? "Nothing is found in the events." : "All kinds of events are switched off.",
        )),
      );
  }

  row(event) {
    const { name, row, arrow } = events.origin(event);
    const bad = FAMILIES[events.families[event]][0] === "errors";
    return element(
      "div",
      {
        class: `row${bad ? " bad" : ""}${row === "told" ? " told" : ""}`,
        role: "option",
        id: `event-${event}`,
        "data-event": event,
      },
      element("time", {}, clock(events.t_us[event])),
      element("span", { class: `way ${row}`, title: name, role: "img", "aria-label": name }, arrow),
      element("span", { class: "kind", dir: "auto" }, events.type(event)),
      element("span", { class: "gist", dir: "auto" }, this.texts ? gist(this.texts[event] ?? "") : ""),
    );
  }
}

const GIST = [
  "message",
  "text",
  "transcript",
  "delta",
  "name",
  "status",
  "reason",
  "code",
  "audio_start_ms",
  "audio_end_ms",
  "model",
  "url",
  "handler",
  "error",
  "latency_s",
  "arguments",
];

/** Write a number with what it is of, and its unit. */
function measured(key, value) {
  const [, name, unit] = key.match(/^(.*?)_?(ms|s)?$/);
  return `${name.replaceAll("_", " ")} ${unit ? spanText(value * { ms: 1e3, s: 1e6 }[unit]) : value}`;
}

/** Say what an event is about, in few words. */
function gist(json) {
  if (json.length > 20_000) return `${numberText(json.length)} characters`;
  let event;
  try {
    event = JSON.parse(json);
  } catch {
    return json.slice(0, 120);
  }
  const inside = [
    event,
    event?.error,
    event?.response,
    event?.item,
    event?.session,
    event?.item?.content?.[0],
  ];
  const found = [];
  for (const part of inside) {
    if (!part || typeof part !== "object") continue;
    for (const key of GIST) {
      const value = part[key];
      if (value === null || value === undefined || value === "" || typeof value === "object") continue;
      const words = typeof value === "number" ? measured(key, value) : String(value).slice(0, 160);
      if (!found.includes(words)) found.push(words);
      if (found.length > 2) return found.join(" · ");
    }
  }
  return found.join(" · ");
}

const list = new EventList();
