/** A point that wants a label, in pixels. */
export interface Anchor {
  readonly x: number;
  readonly y: number;
  readonly text: string;
}

/** Where a label stands against its point. */
export interface Spot {
  readonly dx: number;
  readonly dy: number;
  readonly textAnchor: "start" | "end" | "middle";
}

/** A rectangle in pixels. */
export interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

const lineHeight = 13;
/** Mean advance of a 12-pixel sans-serif character, upper bound. */
const characterWidth = 6.9;
const spots = [
  { dx: 8, dy: 0, textAnchor: "start" },
  { dx: -8, dy: 0, textAnchor: "end" },
  { dx: 0, dy: -13, textAnchor: "middle" },
  { dx: 0, dy: 13, textAnchor: "middle" },
  { dx: 6, dy: -12, textAnchor: "start" },
  { dx: 6, dy: 12, textAnchor: "start" },
  { dx: -6, dy: -12, textAnchor: "end" },
  { dx: -6, dy: 12, textAnchor: "end" },
] as const satisfies readonly Spot[];

/** What labels stand among. */
export interface Surroundings {
  /** The frame that labels stay inside. */
  readonly bounds: Box;
  /** What they must not cover. */
  readonly boxes?: readonly Box[];
  /** What they cover only where there is no other place. */
  readonly lines?: readonly Box[];
}

/**
 * Labels beside points so that none covers a point or another label; greedy, the first anchor chooses first. Those that
 * find no place are left out.
 */
export function placeLabels<T extends Anchor>(anchors: readonly T[], surroundings: Surroundings): (T & Spot)[] {
  const { bounds, boxes = [], lines = [] } = surroundings;
  const points = anchors.map(({ x, y }) => ({ left: x - 6, right: x + 6, top: y - 6, bottom: y + 6 }));
  const taken: Box[] = [...boxes, ...points];
  return anchors.flatMap((anchor) => {
    const free = spots.filter((spot) => {
      const box = boxOf(anchor, spot);
      return inside(box, bounds) && !taken.some((other) => overlaps(box, other));
    });
    const clear = free.find((spot) => !lines.some((line) => overlaps(boxOf(anchor, spot), line)));
    const spot = clear ?? free[0];
    if (!spot) return [];
    taken.push(boxOf(anchor, spot));
    return [{ ...anchor, ...spot }];
  });
}

function boxOf({ x, y, text }: Anchor, { dx, dy, textAnchor }: Spot): Box {
  const width = [...text].length * characterWidth;
  const left = x + dx - (textAnchor === "start" ? 0 : textAnchor === "end" ? width : width / 2);
  return { left, right: left + width, top: y + dy - lineHeight / 2, bottom: y + dy + lineHeight / 2 };
}

function inside(a: Box, b: Box): boolean {
  return a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
}

function overlaps(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
