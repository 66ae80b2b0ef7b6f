// Plays pieces of sound one behind the other as they come.

const LEAD = 0.08; // seconds from a piece's arrival to its sound

export class Player {
  constructor(rate) {
    this.context = new AudioContext({sampleRate: rate});
    this.rate = rate, this.begin();
  }

  begin() { this.end = 0, this.gaps = 0, this.playing = new Set(); }

  push(samples) {
    const buffer = this.context.createBuffer(1, samples.length, this.rate), source = this.context.createBufferSource();
    buffer.copyToChannel(samples, 0);
    source.buffer = buffer;
    source.connect(this.context.destination);
    const now = this.context.currentTime;
    if (this.end && this.end < now) this.gaps++;
    const at = Math.max(this.end, now + (this.end ? 0 : LEAD));
    source.start(at);
    this.end = at + buffer.duration;
    this.playing.add(source);
    source.onended = () => this.playing.delete(source);
  }

  stop() {
    for (const source of this.playing) source.stop();
    this.begin();
  }
}
