// What was said: what nobody heard of it is struck out behind the cut.

class Transcript {
  constructor() {
    this.box = $("transcript");
    this.entries = data.transcript.map((said) => this.entry(said));
    this.box.append(...this.entries.map(({ node }) => node));
    rove(
      this.box,
      this.entries.map(({ node }) => node.firstElementChild),
    );
    if (!this.entries.length) this.box.append(element("li", { class: "empty" }, "Nothing was transcribed."));
  }

  entry(said) {
    const text = element("p", { dir: "auto" });
    const node = element(
      "li",
      { class: `entry ${said.who}` },
      element("button", { type: "button", title: "Go there" }, clock(said.start_us, 1)),
      element(
        "div",
        {},
        element(
          "span",
          { class: "who" },
          { person: "Person", assistant: "Assistant", tool: "Tool", note: "Note" }[said.who],
        ),
        text,
      ),
    );
    const go = () => {
      player.seek(said.start_us);
      view.reveal(said.start_us, said.end_us);
      if (said.event != null) choose(said.event, { follow: false });
    };
    node.addEventListener("click", () => {
      if (!String(getSelection())) go();
    });
    const made = { said, node, text };
    this.write(made, null);
    return made;
  }

  /** Write an entry's text, with what was searched for marked; return how many marks there are. */
  write({ said, text }, wanted) {
    text.replaceChildren();
    text.classList.toggle("call", said.who === "tool");
    let count = marked(text, said.heard, wanted);
    if (said.cut_us != null) {
      text.append(
        element(
          "span",
          { class: "cutmark", title: "What follows was never heard" },
          `cut after ${spanText(said.cut_us)}`,
        ),
      );
      const rest = element("s", { class: "unheard" });
      count += marked(rest, said.unheard.trimStart(), wanted);
      text.append(rest);
    }
    if (!said.heard && !said.unheard)
      text.append(element("span", { class: "note" }, said.who === "person" ? "not transcribed" : "no words"));
    return count;
  }

  /** Mark a text in all that was said; return in how many entries it is. */
  search(query) {
    const wanted = query ? new RegExp(query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu") : null;
    let found = 0;
    for (const entry of this.entries) {
      const count = this.write(entry, wanted);
      if (count && !found++) entry.node.scrollIntoView({ block: "nearest" });
    }
    return found;
  }

  /** Show who is speaking at the playhead. */
  follow() {
    const t = view.playhead_us;
    const now = this.entries.findLast(({ said }) => said.start_us <= t && t < said.end_us);
    if (now === this.now) return;
    this.now?.node.classList.remove("now");
    now?.node.classList.add("now");
    if (now && player.playing) now.node.scrollIntoView({ block: "nearest" });
    this.now = now;
  }
}

/** Append a text with its first matches marked; return how many those are. */
function marked(into, text, wanted) {
  let at = 0;
  let count = 0;
  for (const match of wanted ? text.matchAll(wanted) : []) {
    into.append(text.slice(at, match.index), element("mark", {}, match[0]));
    at = match.index + match[0].length;
    if (++count === 200) break;
  }
  into.append(text.slice(at));
  return count;
}

const transcript = new Transcript();
