// Reads the float gauge at Lenn harbour, smooths out waves, and warns the
// harbour office when the water will cover the quay.

const SAMPLE_SECONDS = 2;
const WINDOW = 90; // three minutes of samples
const QUAY_CM = 412; // height of the quay edge above chart datum

/**
 * Sliding median. A median, unlike a mean, ignores the odd absurd value that
 * the float gives when a boat bumps the pipe or a gull sits on it.
 */
class MedianFilter {
  constructor(size) {
    this.size = size;
    this.values = [];
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > this.size) {
      this.values.shift();
    }
    return this.median();
  }

  median() {
    const sorted = [...this.values].sort((a, b) => a - b);
    const middle = Math.floor(sorted.length / 2);
    if (sorted.length % 2 === 1) {
      return sorted[middle];
    }
    return (sorted[middle - 1] + sorted[middle]) / 2;
  }
}

/**
 * Height in centimetres above chart datum from the raw turn count of the
 * pulley. The pulley is 31.8 cm around and the encoder gives 1024 steps.
 */
function heightFromSteps(steps, zeroOffset) {
  return (steps / 1024) * 31.8 + zeroOffset;
}

/**
 * Barometer correction: the sea rises about one centimetre for every
 * hectopascal by which the air pressure is below 1013.
 */
function surgeFromPressure(hectopascal) {
  return 1013 - hectopascal;
}

/**
 * Predicts the level some minutes ahead with a straight line through the last
 * readings. Good enough for half an hour; beyond that, use the printed tables.
 */
function extrapolate(readings, minutesAhead) {
  if (readings.length < 2) {
    throw new RangeError("need two readings or more");
  }
  const n = readings.length;
  const meanT = readings.reduce((sum, r) => sum + r.minute, 0) / n;
  const meanH = readings.reduce((sum, r) => sum + r.height, 0) / n;
  let top = 0;
  let bottom = 0;
  for (const r of readings) {
    top += (r.minute - meanT) * (r.height - meanH);
    bottom += (r.minute - meanT) ** 2;
  }
  const slope = bottom === 0 ? 0 : top / bottom;
  const last = readings[n - 1].minute;
  return meanH + slope * (last + minutesAhead - meanT);
}

/**
 * Decides on a warning. To keep the siren from stuttering when the level
 * hovers at the edge, an alarm that is on goes off only after the forecast
 * has dropped 15 cm below the quay.
 */
function nextAlarm(isOn, forecastCm) {
  if (isOn) {
    return forecastCm > QUAY_CM - 15;
  }
  return forecastCm >= QUAY_CM;
}

/** Ties the parts together; call `tick` once for every encoder sample. */
class Gauge {
  constructor(zeroOffset, onAlarm) {
    this.filter = new MedianFilter(WINDOW);
    this.zeroOffset = zeroOffset;
    this.onAlarm = onAlarm;
    this.readings = [];
    this.alarm = false;
    this.ticks = 0;
  }

  tick(steps, hectopascal) {
    this.ticks += 1;
    const level = this.filter.push(heightFromSteps(steps, this.zeroOffset));
    const minute = (this.ticks * SAMPLE_SECONDS) / 60;
    this.readings.push({ minute, height: level });
    this.readings = this.readings.filter((r) => r.minute > minute - 20);
    if (this.readings.length < 2) {
      return;
    }
    // The float already feels the present air pressure. A quarter of the
    // correction is added again as a margin for weather still to come.
    const margin = surgeFromPressure(hectopascal) / 4;
    const expected = extrapolate(this.readings, 30) + margin;
    const next = nextAlarm(this.alarm, expected);
    if (next !== this.alarm) {
      this.alarm = next;
      this.onAlarm(next, expected);
    }
  }
}

module.exports = { MedianFilter, Gauge, extrapolate, heightFromSteps, nextAlarm, surgeFromPressure };
