// One event as JSON: coloured, shortened where it is long, copied whole.

const LONG = 600;
const LINES = 3000;

class Details {
  constructor() {
    this.text = "";
    $("copy").addEventListener("click", () => this.copy());
    this.hint();
  }

  hint() {
    $("json").replaceChildren(
      element(
        "p",
        { class: "hint" },
        "Click a mark, a bar or a turn to see what was sent at that moment. Press n and p to go from event to event.",
      ),
    );
  }

  async show(event) {
    const origin = events.origin(event);
    $("details-title").textContent = events.type(event);
    $("details-title").title = events.type(event);
    $("about").textContent = `${clock(events.t_us[event])} · ${origin.name} · no. ${numberText(event + 1)}`;
    const texts = await events.texts;
    if (view.selected !== event) return;
    this.raw = texts[event] ?? "";
    $("copy").disabled = false;
    $("copy").textContent = "Copy";
    document.querySelector("aside").classList.remove("quiet");
    let value;
    try {
      value = JSON.parse(this.raw);
      this.text = JSON.stringify(value, null, 2);
    } catch {
      this.text = this.raw;
      $("json").replaceChildren(longText(this.raw, "l"));
      return;
    }
    const made = document.createDocumentFragment();
    writeJson(made, value, "", { lines: 0 });
    $("json").replaceChildren(made);
    $("json").scrollTop = 0;
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.text);
    } catch {
      // a page from disk may not be given the clipboard
      const area = element("textarea", { class: "unseen" });
      area.value = this.text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    $("copy").textContent = "Copied";
    say("copied");
  }
}

/** Write a value as its JSON, indented, into a node. */
function writeJson(into, value, indent, budget) {
  const put = (text, kind) => into.append(kind ? element("span", { class: kind }, text) : text);
  if (typeof value === "string") return into.append(longText(JSON.stringify(value), "s"));
  if (value === null || typeof value !== "object")
    return put(String(value), typeof value === "number" ? "n" : "l");
  const entries = Object.entries(value);
  const list = Array.isArray(value);
  const [open, close] = list ? "[]" : "{}";
  if (!entries.length) return put(open + close);
  put(`${open}\n`);
  for (const [place, [key, each]] of entries.entries()) {
    if (++budget.lines > LINES || indent.length > 200) {
      put(`${indent}  … ${entries.length - place} more; copy to see them\n`, "l");
      break;
    }
    put(`${indent}  `);
    if (!list) {
      put(JSON.stringify(key), "k");
      put(": ");
    }
    writeJson(into, each, `${indent}  `, budget);
    put(place < entries.length - 1 ? ",\n" : "\n");
  }
  put(indent + close);
}

/** Return a text that is cut off where it is long, with a button for the rest. */
function longText(text, kind) {
  const made = element("span", { class: kind });
  if (text.length <= LONG) {
    made.textContent = text;
    return made;
  }
  made.append(text.slice(0, LONG / 2), "…");
  const rest = text.length - LONG / 2;
  const more = element("button", { type: "button" }, `${numberText(rest)} more`);
  more.addEventListener("click", () =>
    made.replaceChildren(text.slice(0, 200_000), text.length > 200_000 ? "… (copy to see all)" : ""),
  );
  made.append(more);
  return made;
}

const details = new Details();
