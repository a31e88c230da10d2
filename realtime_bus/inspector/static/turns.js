// The turns as a table: how long the person waited, and how fast the assistant fell silent.

/** Who began a turn, where nobody was understood. */
const ASKED = {
  speech: "not transcribed",
  commit: "not transcribed",
  text: "written",
  request: "asked for by the application",
  idle: "nobody had spoken",
};

class Turns {
  constructor() {
    if (!data.turns.length) {
      $("turns").append(element("p", { class: "empty" }, "Nobody answered anybody: there are no turns."));
      this.rows = [];
      return;
    }
    const waits = data.turns.map((turn) => this.wait(turn)).filter((wait) => wait != null);
    this.longest = Math.max(...waits, 1);
    this.rows = data.turns.map((turn, number) => this.row(turn, number));
    rove(
      $("turns"),
      this.rows.map((row) => row.querySelector("button")),
    );
    const heads = ["Turn", "at", "noticed", "first answer", "until heard", "heard", "cut to silence"];
    $("turns").append(
      element(
        "table",
        {},
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ...heads.map((head) => element("th", { scope: "col" }, head)),
            element("th", { scope: "col", class: "said" }, "what was said"),
          ),
        ),
        element("tbody", {}, ...this.rows),
      ),
    );
    const small = element("small", {}, numberText(data.turns.length));
    $("tab-turns").append(small);
  }

  /** Return how long the person waited: from falling silent until the answer was heard. */
  wait({ quiet_us, asked_us, first_us, heard_us }) {
    const answer = heard_us ?? first_us;
    return answer == null ? null : answer - (quiet_us ?? asked_us);
  }

  row(turn, number) {
    const wait = this.wait(turn);
    const shown = (us) => (us == null ? element("span", { class: "none" }, "–") : spanText(us));
    const button = element("button", { type: "button" }, String(turn.number ?? number + 1));
    const bar = element("span", { class: "bar-of", "aria-hidden": "true" });
    const { quiet_us, asked_us, first_us, heard_us } = turn;
    const stages = [
      ["noticing", quiet_us, asked_us],
      ["answering", asked_us, first_us],
      ["starting", first_us, heard_us],
    ];
    for (const [stage, from_us, to_us] of wait == null ? [] : stages) {
      if (from_us == null || to_us == null) continue;
      const part = element("i", { class: stage });
      part.style.width = `${(56 * Math.max(0, to_us - from_us)) / this.longest}px`;
      bar.append(part);
    }
    const row = element(
      "tr",
      {},
      element("th", { scope: "row" }, button),
      element("td", {}, clock(quiet_us ?? asked_us, 2)),
      element("td", {}, shown(quiet_us == null ? null : asked_us - quiet_us)),
      element("td", {}, shown(first_us == null ? null : first_us - asked_us)),
      element("td", {}, bar, shown(wait)),
      element("td", {}, shown(turn.heard_length_us || null)),
      element("td", turn.silence_us == null ? {} : { class: "cut" }, shown(turn.silence_us)),
      element("td", { class: "said", dir: "auto" }, turn.text || element("span", { class: "none" }, ASKED[turn.origin])),
    );
    row.addEventListener("click", () => this.choose(number));
    return row;
  }

  /** Go to a turn. */
  choose(number, { focus = false } = {}) {
    const turn = data.turns[number];
    if (!turn) return;
    this.current = number;
    const start = turn.quiet_us ?? turn.asked_us;
    player.seek(start);
    view.reveal(
      start - view.length_us * 0.02,
      Math.min(turn.heard_us ?? start, start + view.length_us * 0.5),
    );
    this.rows.forEach((row, each) => row.setAttribute("aria-current", String(each === number)));
    this.rows[number].scrollIntoView({ block: "nearest" });
    if (focus) this.rows[number].querySelector("button").focus();
    if (turn.event != null) choose(turn.event, { follow: false });
    const wait = this.wait(turn);
    say(`turn ${turn.number ?? number + 1}${wait == null ? "" : `, heard after ${spanText(wait)}`}`);
  }

  /** Go to the turn after the playhead, or the one before it. */
  step(by) {
    const at = this.current ?? (by > 0 ? -1 : data.turns.length);
    this.choose(Math.min(Math.max(at + by, 0), data.turns.length - 1));
  }
}

const turns = new Turns();
