// Numbers as colours: from below zero to above it, or rising.
export const SIGNED = [[33, 84, 148], [140, 178, 216], [245, 246, 247], [230, 160, 120], [160, 52, 30]];
export const RISING = [[62, 73, 137], [38, 120, 142], [53, 170, 130], [150, 208, 90], [248, 230, 120]];

// The colour at t, from 0 to 1, as three bytes.
export function colour(stops, t) {
  const x = Math.min(Math.max(t, 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(x), stops.length - 2);
  return stops[k].map((from, n) => Math.round(from + (stops[k + 1][n] - from) * (x - k)));
}

export const css = (rgb) => `rgb(${rgb.join(",")})`;

export const gradient = (stops) => `linear-gradient(to right, ${stops.map(css).join(", ")})`;

// How some values are shown: the colours, their ends, and the colour of one value.
export function scaleOf(values) {
  const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const isSigned = low < 0 && high > 0;
  const most = Math.max(-low, high);
  const [least, greatest] = isSigned ? [-most, most] : [low, high];
  const stops = isSigned ? SIGNED : RISING;
  const shade = (value) => css(colour(stops, greatest > least ? (value - least) / (greatest - least) : 0.5));
  return { stops, least, greatest, shade };
}
