import type { Random } from "../../src/random.ts";
import { type Point, type Stroke, styles } from "./strokes.ts";

/** Height and width of a picture. */
export const side = 28;

/** One rendered digit. */
export interface Digit {
  readonly label: number;
  /** Ink, row by row: 0 is paper, 255 black. */
  readonly pixels: Uint8Array;
}

/** Draws a digit of a random style in a random hand: shape, slant, size, place, pen and noise all vary. */
export function renderDigit(label: number, random: Random): Digit {
  const variants = styles[label]!;
  const hand = randomHand(random);
  const strokes = variants[random.int(variants.length)]!.map((stroke) => stroke.map((point) => hand(point, random)));
  const radius = 0.75 + 0.9 * random.next();
  const blur = 0.5 + 0.5 * random.next();
  const strength = 0.7 + 0.3 * random.next();
  const noise = 0.12 * random.next();
  const pixels = new Uint8Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const ink = Math.min(1, Math.max(0, (radius - distance(x, y, strokes)) / (2 * blur) + 0.5));
      if (ink > 0) pixels[y * side + x] = level(ink * strength * (1 + noise * random.normal()));
    }
  }
  // specks of dust, as on a scan
  for (let specks = random.int(4); specks > 0; specks--) pixels[random.int(side * side)] = level(0.6 * random.next());
  return { label, pixels };
}

function level(ink: number): number {
  return Math.round(Math.min(1, Math.max(0, ink)) * 63) * 4;
}

/** A random smooth map from the unit square to pixel coordinates: elastic, then affine; each call adds a tremor. */
function randomHand(random: Random): (point: Point, random: Random) => Point {
  const uniform = (low: number, high: number): number => low + (high - low) * random.next();
  const waves = Array.from({ length: 3 }, () => ({
    fx: uniform(-3.5, 3.5),
    fy: uniform(-3.5, 3.5),
    phase: uniform(0, 2 * Math.PI),
    dx: uniform(-0.05, 0.05),
    dy: uniform(-0.05, 0.05),
  }));
  const angle = uniform(-0.25, 0.25);
  const slant = uniform(-0.35, 0.2);
  const [width, height] = [uniform(15, 23), uniform(17, 23)];
  const [left, top] = [side / 2 - 0.5 + uniform(-2.5, 2.5), side / 2 - 0.5 + uniform(-2.5, 2.5)];
  return ([px, py], tremor) => {
    let [x, y] = [px - 0.5 + 0.012 * tremor.normal(), py - 0.5 + 0.012 * tremor.normal()];
    for (const { fx, fy, phase, dx, dy } of waves) {
      const wave = Math.sin(fx * px + fy * py + phase);
      x += dx * wave;
      y += dy * wave;
    }
    x -= slant * y;
    return [
      left + width * (x * Math.cos(angle) - y * Math.sin(angle)),
      top + height * (x * Math.sin(angle) + y * Math.cos(angle)),
    ];
  };
}

/** Distance in pixels from (x, y) to the nearest stroke. */
function distance(x: number, y: number, strokes: readonly Stroke[]): number {
  let nearest = Number.POSITIVE_INFINITY;
  for (const stroke of strokes) {
    for (let i = 1; i < stroke.length; i++) {
      const [ax, ay] = stroke[i - 1]!;
      const [bx, by] = stroke[i]!;
      const [ux, uy] = [bx - ax, by - ay];
      const along = ((x - ax) * ux + (y - ay) * uy) / (ux * ux + uy * uy || 1);
      const t = Math.min(1, Math.max(0, along));
      nearest = Math.min(nearest, Math.hypot(x - ax - t * ux, y - ay - t * uy));
    }
  }
  return nearest;
}
