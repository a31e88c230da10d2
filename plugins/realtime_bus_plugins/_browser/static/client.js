/**
 * A conversation with the agent, without any looks: microphone, loudspeaker, socket.
 *
 *     import { Conversation } from "/talk/client.js";
 *
 *     const conversation = new Conversation();
 *     conversation.addEventListener("caption", ({ detail }) => show(detail));
 *     button.onclick = () => conversation.start(); // browsers let sound begin at a click only
 *
 * Events, each with its `detail`:
 *   state      the new `state`: "idle", "asking" (for the microphone), "connecting", "live",
 *              "reconnecting", "paused" (the browser has stopped the sound: call `resume`), "ended"
 *   notice     {kind, text}: what the person should know; the kinds are in NOTICES
 *   caption    {id, who, text, start, samples, done, heard_ms}, the latest of each id; see `heard`
 *   turn       {person, thinking}
 *   interrupt  {position}: playback was cut off there
 *   progress   {heard}: up to which position of the stream the loudspeaker has come
 *   level      {microphone, loudspeaker}: loudness from 0 to 1, some fifty times a second
 */

const RATE = 24000;
const MAX_UNSENT = 2 * RATE * 2; // bytes: two seconds; beyond, what is recorded is thrown away
const RETRY_MS = [0, 250, 500, 1000, 2000, 4000];
const CONNECT_MS = 10_000;
const SOUND_MS = 1000; // how long opening the loudspeaker may take
const GIVE_UP_MS = 60_000;
const [OVER, REPLACED, REFUSED, BUSY] = [4000, 4001, 1008, 1013];

export const NOTICES = {
  insecure: "A browser lends its microphone to pages of https:// and of localhost only.",
  denied: "The microphone is blocked for this page. Allow it in the address bar, and start again.",
  missing: "No microphone was found. Connect one, and start again.",
  busy: "The microphone cannot be used: another program may have it.",
  microphone: "The microphone has changed.",
  unplugged: "The microphone is gone. Connect one to go on.",
  unreachable: "The server does not answer.",
  refused: "The server refused the connection.",
  full: "All lines are busy. Please try again in a moment.",
  elsewhere: "The conversation goes on in another connection.",
  anew: "The connection was lost for too long: this is a new conversation.",
  blocked: "The browser has paused the sound.",
};

const DENIED = { NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "missing" };

export class Conversation extends EventTarget {
  /**
   * @param {string|URL} url  the WebSocket; by default the one beside this file
   * @param {object} audio    constraints of the microphone
   */
  constructor({ url = new URL("call", import.meta.url), audio = {} } = {}) {
    super();
    this.url = new URL(url, location.href);
    this.url.protocol = this.url.protocol.replace("http", "ws");
    // gain is evened out and echo cancelled, but no noise suppressed: detectors do better without
    this.constraints = {
      channelCount: 1, echoCancellation: true, autoGainControl: true, noiseSuppression: false,
      ...audio,
    };
    this.state = "idle";
    this.context = null; // AudioContext at 24 kHz
    this.output = null; // the AudioNode that plays, for those who want to see or route the sound
    this.received = this.heard = this.dropped = 0;
    this.levels = { microphone: 0, loudspeaker: 0 };
    this.wants_mute = false;
    this.leave = () => this.stop();
    this.look = () => this.look_after_sound();
    this.replug = () => this.change_device();
    this.hurry = () => this.state === "reconnecting" && this.connect();
  }

  /** Begin: ask for the microphone, and connect. To be called from a click or key press. */
  async start() {
    if (!["idle", "ended"].includes(this.state)) return;
    this.become("asking");
    try {
      this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
      const sound = this.context.resume(); // may be refused until the person does something
      const patience = new Promise((over) => setTimeout(over, SOUND_MS));
      await Promise.all([
        this.load_worklet(this.context), this.open_microphone(), Promise.race([sound, patience]),
      ]);
    } catch (error) {
      this.close_sound();
      this.become("idle");
      this.notice(!isSecureContext ? "insecure" : DENIED[error.name] ?? "busy", error);
      return;
    }
    this.open_loudspeaker();
    this.context.addEventListener("statechange", this.look);
    document.addEventListener("visibilitychange", this.look);
    navigator.mediaDevices.addEventListener("devicechange", this.replug);
    addEventListener("pagehide", this.leave);
    addEventListener("online", this.hurry);
    Object.assign(this, { call: null, received: 0, heard: 0, lost_at: 0, tries: 0 });
    this.become("connecting");
    this.connect();
  }

  /** End the conversation. */
  stop() {
    this.end();
  }

  /** Ask the assistant to be quiet. */
  interrupt() {
    this.say({ type: "interrupt" });
  }

  /** Let sound begin that the browser has paused; to be called from a click or key press. */
  resume() {
    return this.context?.resume();
  }

  /** Whether something of the assistant's can be heard, or is here to be. */
  get speaking() {
    return this.heard < this.received;
  }

  get muted() {
    return this.wants_mute;
  }

  /** A muted microphone sends silence: the other side must know that a turn is over. */
  set muted(wanted) {
    this.wants_mute = wanted;
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !wanted;
  }

  // --- sound ----------------------------------------------------------------------------------

  load_worklet(context) {
    return context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
  }

  async open_microphone() {
    if (!navigator.mediaDevices) throw new DOMException("no microphone here", "SecurityError");
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: this.constraints });
    this.muted = this.wants_mute;
    for (const track of this.stream.getTracks()) {
      track.addEventListener("ended", () => this.change_device(true));
    }
    await this.connect_microphone();
  }

  async connect_microphone() {
    let context = this.context;
    let source;
    try {
      source = context.createMediaStreamSource(this.stream);
    } catch {
      // a browser that does not resample microphones: our worklet does
      context = this.recording_context ??= new AudioContext();
      source = context.createMediaStreamSource(this.stream);
    }
    await this.load_worklet(context);
    this.recorder?.disconnect();
    this.recorder = new AudioWorkletNode(context, "realtime-bus-recorder", { numberOfOutputs: 0 });
    this.recorder.port.onmessage = ({ data }) => this.recorded(data);
    source.connect(this.recorder);
  }

  open_loudspeaker() {
    this.output = new AudioWorkletNode(this.context, "realtime-bus-player", {
      numberOfInputs: 0, outputChannelCount: [1],
    });
    this.output.port.onmessage = ({ data }) => ("flushed" in data ? this.flushed(data) : this.played(data));
    this.output.connect(this.context.destination);
  }

  close_sound() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    for (const node of [this.recorder, this.output]) if (node) node.port.onmessage = null;
    for (const context of [this.context, this.recording_context]) context?.close();
    this.context = this.recording_context = this.recorder = this.output = this.stream = null;
    this.levels = { microphone: 0, loudspeaker: 0 };
    this.tell("level", this.levels);
  }

  recorded({ pcm, level }) {
    this.levels.microphone = this.wants_mute ? 0 : level;
    this.tell("level", this.levels);
    if (!this.call || this.socket?.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount < MAX_UNSENT) this.socket.send(pcm);
    else this.dropped += 1;
  }

  played({ heard, level, dry }) {
    this.heard = heard;
    this.dry = dry;
    this.levels.loudspeaker = level;
    this.say({ type: "played", position: heard });
    this.tell("progress", { heard });
    const latency = Math.round(this.latency() * RATE);
    if (Math.abs(latency - this.latency_told) < RATE / 500) return;
    this.latency_told = latency;
    this.output.port.postMessage({ latency });
  }

  flushed({ flushed, position }) {
    this.say({ type: "flushed", before: flushed, position });
    if (position < flushed) this.tell("interrupt", { position });
  }

  /** Return how many seconds after it was made sound leaves the loudspeaker, as the browser says. */
  latency() {
    const { context } = this;
    const { contextTime } = context.getOutputTimestamp?.() ?? {};
    const since = contextTime > 0 ? context.currentTime - contextTime : 0;
    const said = context.baseLatency + (context.outputLatency || 0); // Safari has no outputLatency
    return Math.min(1, Math.max(0, since, said)); // the worse of the two: rather too little heard
  }

  look_after_sound() {
    const { context } = this;
    if (!context || context.state === "closed" || !this.call) return;
    if (context.state === "running") {
      if (this.state === "paused") this.become("live");
    } else if (document.visibilityState === "visible" && this.state === "live") {
      this.become("paused");
      this.notice("blocked");
      context.resume();
    }
  }

  /** Go on with the microphone that is there now. */
  async change_device(lost = false) {
    const [track] = this.stream?.getAudioTracks() ?? [];
    if (!track || this.changing) return;
    const { deviceId, groupId } = track.getSettings();
    const microphones = (await navigator.mediaDevices.enumerateDevices())
      .filter(({ kind }) => kind === "audioinput");
    const same = microphones.some((each) => each.deviceId === deviceId && each.groupId === groupId);
    if (same && !lost && track.readyState === "live") return;
    this.changing = true;
    try {
      track.stop();
      await this.open_microphone();
      this.notice("microphone");
    } catch (error) {
      this.notice("unplugged", error); // `devicechange` comes when there is one again
    } finally {
      this.changing = false;
    }
  }

  // --- the socket -----------------------------------------------------------------------------

  connect() {
    clearTimeout(this.retry);
    if (this.socket && this.socket.readyState < WebSocket.CLOSING) return;
    let socket;
    try {
      socket = this.socket = new WebSocket(this.url);
    } catch (error) {
      console.warn("realtime-bus:", error); // the address, or the page's content policy
      return this.end("unreachable");
    }
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.say({ type: "hello", call: this.call, received: this.received });
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") this.play(data);
      else {
        const message = JSON.parse(data);
        this[`on_${message.type}`]?.(message);
      }
    };
    socket.onclose = ({ code }) => this.socket === socket && this.disconnected(code);
    setTimeout(() => {
      // some ways of failing have no event
      if (this.socket === socket && socket.readyState !== WebSocket.OPEN) this.disconnected(1006);
    }, CONNECT_MS);
  }

  disconnected(code) {
    this.socket = null;
    if (!this.context) return;
    const why = { [OVER]: "", [REPLACED]: "elsewhere", [REFUSED]: "refused", [BUSY]: "full" }[code];
    if (why !== undefined) return this.end(why);
    this.lost_at ||= performance.now();
    if (performance.now() - this.lost_at > GIVE_UP_MS || (!this.call && this.tries > 2)) {
      return this.end("unreachable");
    }
    if (this.call) this.become("reconnecting");
    const wait = RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)];
    this.retry = setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
  }

  on_started({ call, resumed, ready }) {
    if (this.call && this.call !== call) {
      this.notice("anew");
      this.received = 0;
      this.output.disconnect(); // positions begin anew, too
      this.open_loudspeaker();
      this.latency_told = NaN;
    }
    Object.assign(this, { call, lost_at: 0, tries: 0 });
    this.become(!ready ? "connecting" : this.context.state === "running" ? "live" : "paused");
  }

  on_flush({ before }) {
    this.received = Math.max(this.received, before);
    this.output.port.postMessage({ flush: before });
  }

  on_caption(caption) {
    this.tell("caption", caption);
  }

  on_turn(turn) {
    this.tell("turn", turn);
  }

  on_ended({ reason, failed }) {
    if (reason) this.notice(failed ? "failed" : "over", undefined, reason);
  }

  play(data) {
    const start = new DataView(data).getUint32(0, true);
    const pcm = data.slice(4);
    this.received = Math.max(this.received, start + pcm.byteLength / 2);
    this.output.port.postMessage({ start, pcm }, [pcm]);
  }

  say(message) {
    if (this.socket?.readyState === WebSocket.OPEN && (this.call || message.type === "hello")) {
      this.socket.send(JSON.stringify(message));
    }
  }

  end(why = "") {
    const { socket } = this;
    this.socket = this.call = null;
    socket?.close(1000);
    clearTimeout(this.retry);
    document.removeEventListener("visibilitychange", this.look);
    navigator.mediaDevices?.removeEventListener("devicechange", this.replug);
    removeEventListener("pagehide", this.leave);
    removeEventListener("online", this.hurry);
    this.close_sound();
    this.become("ended");
    if (why) this.notice(why);
  }

  // --- telling --------------------------------------------------------------------------------

  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.tell("state", state);
  }

  notice(kind, error, text = NOTICES[kind]) {
    if (error) console.warn(`realtime-bus: ${kind}:`, error);
    this.tell("notice", { kind, text });
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * Return how many characters of a caption have been heard, when the loudspeaker is at a position
 * of the stream: in proportion, for nothing links words to moments. Until all of its audio is here,
 * speech is taken to be no faster than 16 characters a second.
 */
export function heard(caption, position) {
  const { text, start, samples, done, heard_ms } = caption;
  if (start === null || caption.who === "person") return text.length;
  const played = heard_ms === null ? position - start : (heard_ms * RATE) / 1000;
  const whole = done ? samples : Math.max(samples, (text.length / 16) * RATE);
  if (played >= whole) return text.length;
  const end = Math.max(0, Math.round((text.length * played) / whole));
  const word = text.slice(end).search(/\s|$/); // whole words: the one that began was begun
  return end === 0 ? 0 : end + word;
}
