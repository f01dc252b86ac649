/**
 * An attend as the tensor cores see it, and which tiles it may use: rows of queries by keys, a head a batch.
 *
 *     block = (head, tile of rows, part of the keys);   warp = 16 or 32 rows and every wk-th block of `keys` keys
 *
 * All axes of queries together are rows, so that heads which share their keys (and only them) fill a tile even where each has one query.
 * Operands are affine in the axes; inner and value dims are contiguous, so that 16 bytes of them are copied at once.
 */
import type { DType } from '../../core/dtype.ts';
import type { Access, Attend, Axis, Expr, Kernel } from '../../loop/ir.ts';
import { legalizeKernel } from '../../loop/legalize.ts';
import type { KernelFacts } from '../target.ts';
import { coefOf, extentOf, type Linear, mergeAxes } from './gemm-plan.ts';
import { hasLimit } from './limits.ts';
import { CUDA_OPS } from './scalar-ops.ts';

export interface AttendOperand extends Linear {
  readonly buffer: string;
}

export interface AttendShape {
  readonly dtype: DType;
  readonly batch: readonly Axis[];
  readonly rows: readonly Axis[];
  readonly key: Axis;
  readonly value: Axis;
  /** Axes of extent 1: always 0. */
  readonly fixed: readonly Axis[];
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly inner: number;
  readonly q: AttendOperand;
  readonly k: AttendOperand;
  readonly v: AttendOperand;
  /** With operations that the chip has. */
  readonly form: Attend;
  /** Where the score is the product times this, and this is positive. */
  readonly scale: number | undefined;
}

export interface AttendTile {
  /** Tiles of 16 rows of a warp. */
  readonly rm: number;
  /** Warps along rows, and along keys. */
  readonly wm: number;
  readonly wk: number;
  /** Keys of a warp at a time. */
  readonly keys: number;
  readonly stages: number;
  /** Blocks of a cluster that share the keys of a tile. */
  readonly split: number;
}

/** Of 16-bit elements: what one copy moves. */
export const CHUNK = 8;
/** Sums of a row stay in registers. */
const MOST_VALUES = 128;
const MOST_INNER = 128;
const MOST_HEADS = 65_535;

const shapes = new WeakMap<Kernel, AttendShape | null>();

/** Undefined where the kernel is no attend, or one that the tensor cores cannot run as its operands lie in memory. */
export function attendShape(kernel: Kernel, facts?: KernelFacts): AttendShape | undefined {
  const known = shapes.get(kernel);
  const shape = known === undefined ? makeShape(kernel) : (known ?? undefined);
  shapes.set(kernel, shape ?? null);
  if (!shape || [shape.q, shape.k, shape.v].some(({ buffer }) => facts?.unaligned?.has(buffer))) return undefined;
  return shape;
}

function makeShape(kernel: Kernel): AttendShape | undefined {
  if (kernel.form.kind !== 'attend' || kernel.form.acc !== 'f32') return undefined;
  const { form } = legalizeKernel(kernel, CUDA_OPS);
  if (form.kind !== 'attend' || form.axes.some((a) => a.extent === 0) || hasLimit(form.axes)) return undefined;
  if (kernel.buffers.some((b) => b.elements >= 2 ** 31)) return undefined;
  const dtypes = [form.q, form.k, form.v].map((x) => kernel.buffers.find((b) => b.name === x.buffer)?.dtype);
  const [dtype] = dtypes;
  if ((dtype !== 'f16' && dtype !== 'bf16') || dtypes.some((d) => d !== dtype)) return undefined;
  const role = (r: Attend['axes'][number]['role']): Axis[] =>
    form.axes.filter((a) => a.role === r && a.extent > 1).map(({ role: _, ...axis }) => axis);
  const points = new Set(form.axes.filter((a) => a.extent === 1).map((a) => a.name));
  const [q, k, v] = [form.q, form.k, form.v].map((x) => linearOf(x, points));
  const [batch, rows, values] = [role('batch'), role('query'), role('value')];
  const [key] = form.axes.filter((a) => a.role === 'key');
  const inner = mergeAxes(role('inner'), [q, k]);
  if (!key || values.length !== 1 || inner.length !== 1) return undefined;
  const [value] = values;
  if (value.extent % CHUNK !== 0 || inner[0].extent % CHUNK !== 0) return undefined;
  if (value.extent > MOST_VALUES || inner[0].extent > MOST_INNER || extentOf(batch) > MOST_HEADS) return undefined;
  if (coefOf(q, inner[0].name) !== 1 || coefOf(k, inner[0].name) !== 1 || coefOf(v, value.name) !== 1) return undefined;
  const whole = (x: Linear, axes: readonly Axis[]): boolean =>
    x.constant % CHUNK === 0 && axes.every((a) => coefOf(x, a.name) % CHUNK === 0);
  if (!whole(q, [...batch, ...rows]) || !whole(k, [...batch, key]) || !whole(v, [...batch, key])) return undefined;
  return {
    dtype,
    batch,
    rows,
    key,
    value,
    fixed: form.axes.filter((a) => points.has(a.name) && a !== key),
    heads: extentOf(batch),
    queries: extentOf(rows),
    keys: key.extent,
    inner: inner[0].extent,
    q,
    k,
    v,
    form,
    scale: scaleOf(form),
  };
}

function scaleOf({ score }: Attend): number | undefined {
  const [only] = score;
  if (score.length !== 1 || only.kind !== 'let') return undefined;
  const isDot = (x: Expr): boolean => x.kind === 'local' && x.name === 'dot';
  if (isDot(only.value)) return 1;
  if (only.value.kind !== 'binary' || only.value.op !== 'mul') return undefined;
  const { a, b } = only.value;
  const number = isDot(a) ? b : a;
  if (number.kind !== 'const' || !(isDot(a) || isDot(b))) return undefined;
  const scale = Number(number.value);
  return scale > 0 && Number.isFinite(scale * Math.LOG2E) ? scale : undefined;
}

function linearOf({ buffer, dims }: Access, points: ReadonlySet<string>): AttendOperand {
  const coefs = new Map<string, number>();
  let constant = 0;
  for (const { at, stride } of dims) {
    constant += at.constant * stride;
    for (const t of at.terms) if (!points.has(t.axis)) coefs.set(t.axis, (coefs.get(t.axis) ?? 0) + t.coef * stride);
  }
  return { buffer, coefs, constant };
}

/** How shared memory is laid out, in bytes: stages of keys and values, then, or over them, what the parts of the keys gave. */
export interface AttendLayout {
  /** Keys of a stage: of all warps along keys. */
  readonly stageKeys: number;
  /** Turns of the loop over keys, those of them in which all keys exist, and the keys of a warp in the last where it is none of them. */
  readonly turns: number;
  readonly wholeTurns: number;
  readonly tailKeys: number;
  /** Stages that are filled before the first turn. */
  readonly ahead: number;
  readonly buffers: number;
  readonly keyPitch: number;
  readonly valuePitch: number;
  readonly valuesAt: number;
  readonly stageBytes: number;
  readonly rows: number;
  /** Rows that a block finishes. */
  readonly ownRows: number;
  readonly parts: number;
  readonly joinAt: number;
  readonly sumPitch: number;
  /** Of each part and row: the greatest score, the sum of weights. */
  readonly statesAt: number;
  readonly bytes: number;
}

/** An odd number of 16 bytes: eight rows below each other lie in different banks. */
const pitchOf = (elements: number): number => (((Math.ceil(elements / 16) * 2) | 1) as number) * 16;

export function layoutOf(shape: AttendShape, tile: AttendTile): AttendLayout {
  const { rm, wm, wk, keys, stages, split } = tile;
  const stageKeys = wk * keys;
  const turns = Math.ceil(shape.keys / (stageKeys * split));
  const wholeTurns = Math.floor(shape.keys / (stageKeys * split));
  const left = shape.keys - wholeTurns * stageKeys;
  const buffers = Math.min(stages, turns);
  const [keyPitch, valuePitch] = [pitchOf(shape.inner), pitchOf(shape.value.extent)];
  const valuesAt = stageKeys * keyPitch;
  const stageBytes = valuesAt + stageKeys * valuePitch;
  const rows = 16 * rm * wm;
  const [ownRows, parts] = [rows / split, wk * split];
  // Other blocks may write here while this one still reads its stages.
  const joinAt = split > 1 ? buffers * stageBytes : 0;
  const sumPitch = shape.value.extent * 4 + 32;
  const statesAt = joinAt + parts * ownRows * sumPitch;
  const end = statesAt + (parts > 1 ? parts * ownRows * 8 : 0);
  return {
    stageKeys,
    turns,
    wholeTurns,
    tailKeys: wk * split === 1 ? Math.ceil(left / 16) * 16 : keys,
    ahead: turns <= stages ? turns : stages - 1,
    buffers,
    keyPitch,
    valuePitch,
    valuesAt,
    stageBytes,
    rows,
    ownRows,
    parts,
    joinAt,
    sumPitch,
    statesAt,
    bytes: Math.max(end, buffers * stageBytes),
  };
}

const TILES: readonly Omit<AttendTile, 'stages' | 'split'>[] = [
  { rm: 1, wm: 1, wk: 1, keys: 64 },
  { rm: 1, wm: 1, wk: 2, keys: 64 },
  { rm: 1, wm: 1, wk: 4, keys: 64 },
  { rm: 1, wm: 1, wk: 2, keys: 32 },
  { rm: 1, wm: 1, wk: 4, keys: 32 },
  { rm: 1, wm: 1, wk: 8, keys: 32 },
  { rm: 1, wm: 1, wk: 4, keys: 16 },
  { rm: 1, wm: 2, wk: 1, keys: 64 },
  { rm: 1, wm: 2, wk: 2, keys: 64 },
  { rm: 1, wm: 2, wk: 2, keys: 32 },
  { rm: 1, wm: 2, wk: 4, keys: 32 },
];
/** Warps along rows where there are rows enough: about as many as there are, over a few blocks. */
const WARPS = [3, 4, 5, 6, 7, 8];

const tilesFor = (queries: number): readonly Omit<AttendTile, 'stages' | 'split'>[] => [
  ...TILES,
  ...[1, 2].flatMap((rm) => {
    const needed = Math.ceil(queries / (16 * rm));
    const warps = WARPS.filter((wm) => wm === 4 || wm === 8 || [1, 2, 3].some((n) => Math.ceil(needed / n) === wm));
    return warps.filter((wm) => wm <= needed + 1).flatMap((wm) => [64, 32].map((keys) => ({ rm, wm, wk: 1, keys })));
  }),
];
const STAGES = [1, 2, 3] as const;
const SPLITS = [1, 2, 4, 8] as const;

export interface AttendChip {
  readonly sharedBytesPerBlock: number;
  readonly clusters: boolean;
}

/** Sums, queries and scores of a thread; what else it needs must fit beside them. */
const registersOf = ({ value, inner }: AttendShape, { rm, keys }: Pick<AttendTile, 'rm' | 'keys'>): number =>
  rm * (value.extent / 2 + inner / 4 + keys / 2);
const MOST_REGISTERS = 168;

/** Legal parameter rows. */
export function attendTiles(shape: AttendShape, chip: AttendChip): AttendTile[] {
  const rows: AttendTile[] = [];
  for (const tile of tilesFor(shape.queries)) {
    if (registersOf(shape, tile) > MOST_REGISTERS) continue;
    for (const split of SPLITS) {
      // Each part of the keys should have some.
      if (split > 1 && (!chip.clusters || shape.keys <= tile.wk * tile.keys * (split / 2))) continue;
      // Warps behind the last key idle.
      if (tile.wk > 1 && shape.keys <= tile.keys * (tile.wk / 2)) continue;
      for (const stages of STAGES) {
        const row = { ...tile, stages, split };
        const { turns, bytes } = layoutOf(shape, row);
        if (stages > turns || (stages === 1 && turns > 1)) continue;
        if (bytes <= chip.sharedBytesPerBlock) rows.push(row);
      }
    }
  }
  return rows;
}
