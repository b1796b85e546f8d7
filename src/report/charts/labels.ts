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

interface Box {
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

/**
 * Labels beside points so that none covers a point or another label; greedy, the first anchor chooses first. Those that
 * find no place are left out.
 *
 * @param bounds the frame, in pixels, that labels stay inside
 */
export function placeLabels<T extends Anchor>(anchors: readonly T[], bounds: Box): (T & Spot)[] {
  const taken: Box[] = anchors.map(({ x, y }) => ({ left: x - 6, right: x + 6, top: y - 6, bottom: y + 6 }));
  const placed: (T & Spot)[] = [];
  for (const anchor of anchors) {
    for (const spot of spots) {
      const box = boxOf(anchor, spot);
      const inside =
        box.left >= bounds.left && box.right <= bounds.right && box.top >= bounds.top && box.bottom <= bounds.bottom;
      if (!inside || taken.some((other) => overlaps(box, other))) continue;
      taken.push(box);
      placed.push({ ...anchor, ...spot });
      break;
    }
  }
  return placed;
}

function boxOf({ x, y, text }: Anchor, { dx, dy, textAnchor }: Spot): Box {
  const width = [...text].length * characterWidth;
  const left = x + dx - (textAnchor === "start" ? 0 : textAnchor === "end" ? width : width / 2);
  return { left, right: left + width, top: y + dy - lineHeight / 2, bottom: y + dy + lineHeight / 2 };
}

function overlaps(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
