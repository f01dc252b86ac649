/**
 * An operand of a matrix product, gathered element by element: for channels that are few or do not lie side by side (the first layer of
 * a network on a picture, planes of channels), products along other than contiguous axes, elements that are not aligned.
 *
 * A lane has rows, a warp chunks of k, so that k is the same for all lanes and neighbouring rows are neighbours in memory. A table in
 * the module says for each k its offset and its part of each guard; behind k's end stand rows whose guard fails. Elements are loaded
 * before the products of the stage before and stored to shared memory after them.
 */
import type { Axis } from '../../loop/ir.ts';
import { type GemmContext, termsOf } from './gemm-context.ts';
import type { CopyStep } from './gemm-copies.ts';
import { coefOf, type GemmOperand, type Guard } from './gemm-plan.ts';
import { CHUNK_BYTES, type GemmShape, MOST_GATHER_GUARDS, STEP_BYTES } from './gemm-tiles.ts';
import { digitsOf, linearSum } from './ptx-text.ts';

/** What no coordinate inside an operand reaches. */
const OUTSIDE = 0x40000000;
const ROW_BYTES = 16;

/** Loads the elements of one step; what it returns stores them into the stage. */
export type GatherStep = (stage: string) => () => void;

/** One operand: its rows are rows of the output, or columns. */
interface Side {
  readonly name: 'a' | 'b';
  readonly operand: GemmOperand;
  readonly guards: readonly Guard[];
  readonly axes: readonly Axis[];
  readonly extent: number;
  /** Rows of a tile, the number of this block's tile, and where its rows lie in a stage. */
  readonly tile: number;
  readonly tileAt: string;
  readonly byteOffset: number;
}

export const gatherA = (g: GemmContext): GatherStep => {
  const { plan, m } = g.shape;
  return gather(g, {
    ...side('a', plan.a),
    axes: plan.m,
    extent: m,
    tile: g.tile.bm,
    tileAt: g.rowTile,
    byteOffset: 0,
  });
};

export const gatherB = (g: GemmContext): GatherStep => {
  const { plan, n } = g.shape;
  const { bm, bn } = g.tile;
  const place = { tile: bn, tileAt: g.columnTile, byteOffset: bm * STEP_BYTES };
  return gather(g, { ...side('b', plan.b), axes: plan.n, extent: n, ...place });
};

/** Rows and k beyond their ends must fail some guard: where there is none, one that nothing else fails. */
const side = (name: Side['name'], operand: GemmOperand) => ({
  name,
  operand,
  guards: operand.guards.length > 0 ? operand.guards : [{ coefs: new Map(), constant: 0, extent: 1 }],
});

/** [k][offset, parts of guards]. */
function gatherTable({ plan, steps, elementBytes, k }: GemmShape, { operand, guards }: Side): number[] {
  const table: number[] = [];
  for (let at = 0; at < (steps * STEP_BYTES) / elementBytes; at++) {
    let rest = at;
    const digits = new Map<string, number>();
    for (const axis of plan.k.toReversed()) {
      digits.set(axis.name, rest % axis.extent);
      rest = Math.floor(rest / axis.extent);
    }
    const sum = (form: GemmOperand | Guard): number =>
      at < k ? [...digits].reduce((n, [axis, digit]) => n + digit * coefOf(form, axis), 0) : 0;
    const parts = guards.map((guard, i) => (at >= k && i === 0 ? OUTSIDE : sum(guard)));
    table.push(sum(operand), ...parts, ...new Array<number>(MOST_GATHER_GUARDS - parts.length).fill(0));
  }
  return table;
}

function gather(g: GemmContext, from: Side): GatherStep {
  const { w } = g;
  const { elementBytes } = g.shape;
  const { operand, guards, axes, extent, tile, tileAt } = from;
  const { wm, wn, wk } = g.tile;
  const warps = wm * wn * wk;
  const perChunk = CHUNK_BYTES / elementBytes;
  const pointer = g.pointers.get(operand.buffer) as string;
  const tileTerm = tileAt ? [[tileAt, tile] as const] : [];
  const rows = Array.from({ length: tile / 32 }, (_, i) => {
    const index = linearSum(w, [...tileTerm, [g.lane, 1] as const], 32 * i);
    const digits = digitsOf(
      w,
      index,
      axes.map((x) => x.extent),
    ).map((reg, j) => [axes[j].name, reg] as const);
    const all = [...g.batch, ...digits];
    const inside = extent % tile === 0 ? undefined : w.op('pred', 'setp.lt.u32', index, extent);
    const parts = guards.map((guard, j) => {
      const part = linearSum(w, termsOf(guard, all), guard.constant);
      return inside && j === 0 ? w.op('b32', 'selp.b32', part, OUTSIDE, inside) : part;
    });
    return { offset: linearSum(w, termsOf(operand, all), operand.constant), parts };
  });
  const free = freeOfGuards(g, from, rows);
  // Chunk `warp`, and every `warps` further; row r of it lies at place chunk xor (r mod 8).
  const chunks = Array.from({ length: Math.ceil(8 / warps) }, (_, i) =>
    linearSum(w, [[g.warp, 1] as const], i * warps),
  );
  const low = w.op('b32', 'and.b32', g.lane, 7);
  const places = chunks.map((chunk) => {
    const place = w.op('b32', 'xor.b32', chunk, low);
    const terms = [[g.shared, 1] as const, [g.lane, STEP_BYTES] as const, [place, CHUNK_BYTES] as const];
    return linearSum(w, terms, from.byteOffset);
  });
  const table = w.reg('b64');
  const first = linearSum(
    w,
    [
      [g.warp, perChunk * ROW_BYTES] as const,
      ...(g.first === 0 ? [] : [[`${g.first}`, 8 * perChunk * ROW_BYTES] as const]),
    ],
    0,
  );
  w.line(`mad.wide.u32 ${table}, ${first}, 1, ${w.globalTable(from.name, gatherTable(g.shape, from))}`);
  const perStep = 8 * perChunk;
  const exact = g.shape.k % perStep === 0;
  /** Where this warp's first chunk lies in k. */
  const at = w.reg('b32');
  if (!exact) w.line(`shr.u32 ${at}, ${first}, ${Math.log2(ROW_BYTES)}`);
  return (stage) => {
    const loaded = chunks.map((_, c) => {
      const values = rows.map(() => w.regs(elementBytes === 4 ? 'b32' : 'b16', perChunk));
      const place = c * warps * perChunk;
      const [guarded, done] = [w.newLabel(), w.newLabel()];
      if (exact || g.shape.k >= place + perChunk) {
        const whole = exact ? free : w.op('pred', 'setp.le.and.u32', at, g.shape.k - place - perChunk, free);
        w.line(`@!${whole} bra ${guarded}`);
        for (let e = 0; e < perChunk; e++) {
          const offset = w.op('b32', 'ld.global.nc.b32', `[${table}+${(place + e) * ROW_BYTES}]`);
          for (const [i, r] of rows.entries())
            loadElement(g, pointer, w.op('b32', 'add.s32', r.offset, offset), values[i][e]);
        }
        w.line(`bra ${done}`);
      }
      w.label(guarded);
      for (let e = 0; e < perChunk; e++) {
        const entry = w.regs('b32', 4);
        w.line(`ld.global.nc.v4.b32 {${entry.join(', ')}}, [${table}+${(place + e) * ROW_BYTES}]`);
        for (const [i, r] of rows.entries()) {
          const inside = insideGuards(g, r.parts, entry, guards);
          loadElement(g, pointer, w.op('b32', 'add.s32', r.offset, entry[0]), values[i][e], inside);
        }
      }
      w.label(done);
      return values;
    });
    w.line(`add.s64 ${table}, ${table}, ${perStep * ROW_BYTES}`);
    if (!exact) w.line(`add.s32 ${at}, ${at}, ${perStep}`);
    return () => {
      loaded.forEach((values, c) => {
        const to = w.op('b32', 'add.s32', places[c], stage);
        for (const [i, elements] of values.entries()) {
          const words = elementBytes === 4 ? elements : pairsOf(g, elements);
          w.line(`st.shared.v4.b32 [${to}+${i * 32 * STEP_BYTES}], {${words.join(', ')}}`);
        }
      });
    };
  };
}

/** True in warps whose rows lie so far inside that no k within its end can fail a guard. */
function freeOfGuards(
  g: GemmContext,
  { guards }: Side,
  rows: readonly { readonly parts: readonly string[] }[],
): string {
  const { w } = g;
  let all: string | undefined;
  for (const [j, guard] of guards.entries()) {
    const ends = g.shape.plan.k.map((axis) => (axis.extent - 1) * coefOf(guard, axis.name));
    const low = ends.reduce((n, end) => n + Math.min(0, end), 0);
    const high = ends.reduce((n, end) => n + Math.max(0, end), 0);
    const limit = g.ends.get(guard);
    // 0 <= part + low and part + high < extent, as one comparison of part + low.
    const room = limit
      ? w.op('b32', 'max.s32', w.op('b32', 'add.s32', limit, low - high), 0)
      : Math.max(0, guard.extent - high + low);
    for (const { parts } of rows) {
      const above = w.op('b32', 'add.s32', parts[j], low);
      all = all ? w.op('pred', 'setp.lt.and.u32', above, room, all) : w.op('pred', 'setp.lt.u32', above, room);
    }
  }
  return w.op('pred', 'vote.sync.all.pred', all as string, -1);
}

function insideGuards(
  { w, ends }: GemmContext,
  parts: readonly string[],
  entry: readonly string[],
  guards: readonly Guard[],
): string {
  return guards.reduce<string>((p, guard, j) => {
    const at = w.op('b32', 'add.s32', parts[j], entry[1 + j]);
    const end = ends.get(guard) ?? guard.extent;
    return p === '' ? w.op('pred', 'setp.lt.u32', at, end) : w.op('pred', 'setp.lt.and.u32', at, end, p);
  }, '');
}

/** Loads the element at an offset into a register, or 0 where it is not inside. */
function loadElement(g: GemmContext, pointer: string, offset: string, to: string, inside = ''): void {
  const { w } = g;
  const { elementBytes } = g.shape;
  const type = elementBytes === 4 ? 'b32' : 'b16';
  const from = w.op('b64', 'mad.wide.s32', offset, elementBytes, pointer);
  if (inside) w.line(`mov.${type} ${to}, 0`);
  w.line(`${inside ? `@${inside} ` : ''}ld.global.${type} ${to}, [${from}]`);
}

const pairsOf = ({ w }: GemmContext, halves: readonly string[]): string[] =>
  [0, 2, 4, 6].map((j) => {
    const pair = w.reg('b32');
    w.line(`mov.b32 ${pair}, {${halves[j]}, ${halves[j + 1]}}`);
    return pair;
  });

/** A source that needs nothing after the products. */
export const withoutStores =
  (copy: CopyStep): GatherStep =>
  (stage) => {
    copy(stage);
    return () => undefined;
  };
