// Keeps every sample that the page's player makes, as the loudspeaker gets it.
class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.blocks = [];
    this.port.onmessage = () => this.port.postMessage(this.blocks);
  }
  process([input]) {
    this.blocks.push(input[0] ? input[0].slice() : new Float32Array(128));
    return true;
  }
}
registerProcessor("tap", Tap);
