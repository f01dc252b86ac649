/**
 * A convolution that keeps its window in shared memory: what of a contract the window template needs, and its tiles.
 *
 * A block does `rows` output rows at a time. Of the input it then needs (rows - 1)·step + taps rows, each once, though every element meets
 * several taps; the implicit product would copy it for each. In shared memory a place (pixel) of the input is `planes` chunks of 16
 * bytes, chunk c in a plane of its own: 8 neighbouring places are then a core matrix of wgmma without swizzle, and a tap is an offset.
 *
 *     a[x][k] at  plane(k)·planeBytes + row(k)·rowBytes + (x + shift(k))·16           x: place in the output row, k: chunk of k
 */
import { coefOf, extentOf, type GemmPlan, type Guard, isLimited } from './gemm-plan.ts';
import { CHUNK_BYTES, type GemmShape } from './gemm-tiles.ts';

/** Where a chunk of 8 elements of k lies. */
export interface ChunkPlace {
  readonly row: number;
  readonly shift: number;
  readonly plane: number;
}

export interface WindowShape {
  readonly gemm: GemmShape;
  /** Places of an output row, output rows of an image, images. */
  readonly width: number;
  readonly height: number;
  readonly images: number;
  /** Input rows from one output row to the next. */
  readonly step: number;
  /** Rows of the input that an output row needs. */
  readonly taps: number;
  /** Places that an output row needs beyond its own. */
  readonly reach: number;
  readonly planes: number;
  /** The first input row and place of output 0; negative where it is padded. Rows and places outside [0, …) are zeros. */
  readonly firstRow: number;
  readonly firstPlace: number;
  readonly inputRows: number;
  readonly inputPlaces: number;
  /** Elements of a between images, rows and places, and before the first. */
  readonly imageStride: number;
  readonly rowStride: number;
  readonly placeStride: number;
  readonly constant: number;
  readonly chunks: readonly ChunkPlace[];
}

/** Elements of a chunk. */
const CHUNK = 8;
/** Columns that one wgmma takes here: sums of two or four of them fit a thread's registers. */
const MOST_COLUMNS = 128;
/** Places of an output row that are multiplied in vain, of those that count. */
const MOST_WASTE = 0.34;
const ROWS_OF_PRODUCT = 64;

/** Places of an output row as products take them. */
export const paddedWidth = ({ width }: WindowShape): number => Math.ceil(width / ROWS_OF_PRODUCT) * ROWS_OF_PRODUCT;

/** Undefined where the contract is no such convolution. */
export function windowShape(gemm: GemmShape): WindowShape | undefined {
  const { plan, n, batch, elementBytes, a, b } = gemm;
  if (elementBytes !== 2 || batch !== 1 || a !== 'chunks' || b !== 'packed' || isLimited(plan)) return undefined;
  if (n % 16 !== 0 || n > MOST_COLUMNS || plan.m.length < 2) return undefined;
  const [across, down] = [plan.m[plan.m.length - 1], plan.m[plan.m.length - 2]];
  const outer = plan.m.slice(0, -2);
  if (outer.length > 1) return undefined;
  const placeStride = coefOf(plan.a, across.name);
  const inner = plan.k[plan.k.length - 1];
  if (placeStride % CHUNK !== 0 || placeStride <= 0 || inner.extent % CHUNK !== 0) return undefined;
  const rowTaps = plan.k.filter((x) => x !== inner && isRowTap(plan, x.name, down.name));
  const placeTaps = plan.k.filter((x) => x !== inner && !rowTaps.includes(x));
  if (rowTaps.length !== 1 || placeTaps.some((x) => coefOf(plan.a, x.name) % placeStride !== 0)) return undefined;
  const rowStride = coefOf(plan.a, rowTaps[0].name);
  const step = coefOf(plan.a, down.name) / rowStride;
  if (!Number.isInteger(step) || step < 1 || rowStride % CHUNK !== 0) return undefined;

  const rowGuard = plan.a.guards.find((g) => coefOf(g, down.name) !== 0);
  const placeGuard = plan.a.guards.find((g) => coefOf(g, across.name) !== 0);
  if (plan.a.guards.length !== (rowGuard ? 1 : 0) + (placeGuard ? 1 : 0)) return undefined;
  if (
    rowGuard &&
    !isGuardOf(
      rowGuard,
      [
        [down.name, step],
        [rowTaps[0].name, 1],
      ],
      plan,
    )
  )
    return undefined;
  const reachOf = (name: string): number => coefOf(plan.a, name) / placeStride;
  const alongPlaces = placeTaps.map((x) => [x.name, reachOf(x.name)] as const);
  if (placeGuard && !isGuardOf(placeGuard, [[across.name, 1], ...alongPlaces], plan)) return undefined;

  const chunks = chunksOf(plan, rowTaps[0].name, placeStride);
  const reach = Math.max(...chunks.map((c) => c.shift));
  if (!arePairs(chunks)) return undefined;
  const shape: WindowShape = {
    gemm,
    width: across.extent,
    height: down.extent,
    images: extentOf(outer),
    step,
    taps: rowTaps[0].extent,
    reach,
    planes: placeStride / CHUNK,
    firstRow: rowGuard?.constant ?? 0,
    firstPlace: placeGuard?.constant ?? 0,
    inputRows: rowGuard?.extent ?? (down.extent - 1) * step + rowTaps[0].extent,
    inputPlaces: placeGuard?.extent ?? across.extent + reach,
    imageStride: outer.length === 1 ? coefOf(plan.a, outer[0].name) : 0,
    rowStride,
    placeStride,
    constant: plan.a.constant,
    chunks,
  };
  return paddedWidth(shape) <= (1 + MOST_WASTE) * shape.width ? shape : undefined;
}

/** A product takes two chunks, the second some way behind the first. */
const arePairs = (chunks: readonly ChunkPlace[]): boolean =>
  chunks.length % 2 === 0 &&
  chunks.every((c, i) => {
    const before = chunks[i - 1];
    if (i % 2 === 0) return true;
    return c.row === before.row && (c.plane > before.plane || (c.plane === before.plane && c.shift > before.shift));
  });

const isRowTap = (plan: GemmPlan, tap: string, down: string): boolean => {
  const guard = plan.a.guards.find((g) => coefOf(g, down) !== 0);
  return guard
    ? coefOf(guard, tap) !== 0
    : coefOf(plan.a, down) % coefOf(plan.a, tap) === 0 &&
        coefOf(plan.a, tap) > coefOf(plan.a, plan.m[plan.m.length - 1].name);
};

const isGuardOf = (guard: Guard, terms: readonly (readonly [string, number])[], plan: GemmPlan): boolean =>
  [...plan.m, ...plan.k].every((x) => coefOf(guard, x.name) === (terms.find(([name]) => name === x.name)?.[1] ?? 0));

/** Where the chunks of k lie, in the order of the packing. */
function chunksOf(plan: GemmPlan, rowTap: string, placeStride: number): ChunkPlace[] {
  let places: { row: number; element: number }[] = [{ row: 0, element: 0 }];
  for (const axis of plan.k) {
    const isInner = axis === plan.k[plan.k.length - 1];
    const count = isInner ? axis.extent / CHUNK : axis.extent;
    const at = (i: number): { row: number; element: number } =>
      axis.name === rowTap
        ? { row: i, element: 0 }
        : { row: 0, element: isInner ? i * CHUNK : i * coefOf(plan.a, axis.name) };
    places = places.flatMap((p) =>
      Array.from({ length: count }, (_, i) => ({ row: p.row + at(i).row, element: p.element + at(i).element })),
    );
  }
  return places.map(({ row, element }) => ({
    row,
    shift: Math.floor(element / placeStride),
    plane: (element % placeStride) / CHUNK,
  }));
}

export interface WindowTile {
  /** Output rows of a block at a time: one or more of each of two warpgroups. */
  readonly rows: number;
  /** Windows in shared memory at once: one is multiplied, the others are on their way. */
  readonly stages: number;
}

/** The window of a tile in shared memory. */
export interface WindowLayout {
  readonly inputRows: number;
  readonly places: number;
  readonly rowBytes: number;
  /** An odd number of chunks, so that the chunks of a place lie in different banks. */
  readonly planeBytes: number;
  readonly bytes: number;
}

export function windowLayout(s: WindowShape, { rows }: WindowTile): WindowLayout {
  const inputRows = (rows - 1) * s.step + s.taps;
  const places = paddedWidth(s) + s.reach;
  const rowBytes = places * CHUNK_BYTES;
  const chunks = inputRows * places;
  const planeBytes = (s.planes > 1 && chunks % 2 === 0 ? chunks + 1 : chunks) * CHUNK_BYTES;
  return { inputRows, places, rowBytes, planeBytes, bytes: Math.ceil((planeBytes * s.planes) / 128) * 128 };
}

export const weightBytes = ({ gemm }: WindowShape): number => gemm.k * gemm.n * 2;
/** Groups of rows of an image, the last perhaps partly behind its end. */
export const windowTiles = (s: WindowShape, { rows }: WindowTile): number => s.images * Math.ceil(s.height / rows);
