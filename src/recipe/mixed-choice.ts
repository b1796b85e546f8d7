/** One way to store and compute a layer. */
export interface Option {
  /** The format's name. */
  readonly format: string;
  /** What it costs: bytes or milliseconds. */
  readonly cost: number;
  /** What it does to the outputs, at least 0. */
  readonly damage: number;
}

/** One step of a path: a layer takes a cheaper format. */
export interface Move {
  /** Which of the layers. */
  readonly layer: number;
  readonly option: Option;
}

/**
 * The way from the least damage to the least cost: at every step the layer and the format that save most for the damage
 * that they add. After each step the formats are the best for what they cost, as far as damages add up: each layer walks
 * along the lower convex hull of its options (Shoham and Gersho 1988).
 *
 * @param layers the options of each layer; the first is where it starts
 */
export function path(layers: readonly (readonly Option[])[]): readonly Move[] {
  const moves = layers.flatMap((options, layer) =>
    hull(options).map((corner, i, all) => {
      const before = i === 0 ? options[0]! : all[i - 1]!;
      return { layer, option: corner, price: (corner.damage - before.damage) / (before.cost - corner.cost) };
    }),
  );
  return moves.sort((a, b) => a.price - b.price).map(({ layer, option }) => ({ layer, option }));
}

/** The corners of the lower hull behind the first option, from there to the cheapest; prices rise along it. */
function hull([start, ...others]: readonly Option[]): readonly Option[] {
  const corners: Option[] = [];
  let at = start!;
  for (;;) {
    const price = ({ cost, damage }: Option): number => (damage - at.damage) / (at.cost - cost);
    const cheaper = others.filter(({ cost }) => cost < at.cost);
    if (cheaper.length === 0) return corners;
    const best = cheaper.reduce((a, b) => (price(b) < price(a) || (price(b) === price(a) && b.cost < a.cost) ? b : a));
    corners.push(best);
    at = best;
  }
}

/** The options that the first moves of a path lead to. */
export function after(layers: readonly (readonly Option[])[], moves: readonly Move[], count: number): Option[] {
  const chosen = layers.map(([first]) => first!);
  for (const { layer, option } of moves.slice(0, count)) chosen[layer] = option;
  return chosen;
}
