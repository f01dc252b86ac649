/**
 * An operand of a matrix product, gathered element by element: for channels that are few or do not lie side by side (the first layer of
 * a network on a picture, planes of channels), products along other than contiguous axes, elements that are not aligned.
 *
 * A lane has rows, a warp chunks of k, so that k is the same for all lanes and neighbouring rows are neighbours in memory. A table in
 * the module says for each k its offset and its part of each guard; behind k's end stand rows whose guard fails. Elements are loaded
 * before the products of the stage before and stored to shared memory after them. Where the elements of the first stages lie does not
 * depend on the kernel before: it is found out while that one ends, and all of them are then asked for at once.
 */
import type { Axis } from '../../loop/ir.ts';
import { type GemmContext, termsOf } from './gemm-context.ts';
import type { CopyStep } from './gemm-copies.ts';
import { coefOf, type GemmOperand, type Guard } from './gemm-plan.ts';
import { CHUNK_BYTES, type GemmShape, MOST_GATHER_GUARDS, STEP_BYTES } from './gemm-tiles.ts';
import { digitsOf, linearSum } from './ptx-text.ts';

/** Elements of the first steps that a thread may hold in registers. */
const MOST_HELD = 64;
/** What no coordinate inside an operand reaches. */
const OUTSIDE = 0x40000000;
const ROW_BYTES = 16;

/** A row of the operand: where it lies, and its part of each guard. */
interface Row {
  readonly offset: string;
  readonly parts: readonly string[];
}

/** Loads the elements of one step; what it returns stores them into the stage. */
export type GatherStep = (stage: string) => () => void;

/** The first steps together: `load` comes behind the wait for the kernel before, `store` is told each one's stage. */
export interface FirstSteps {
  readonly count: number;
  readonly load: () => void;
  readonly store: (step: number, stage: string) => void;
}

export interface Gather {
  readonly step: GatherStep;
  /** To be written before `step` is, if at all. Undefined where registers do not suffice. */
  readonly first: (most: number) => FirstSteps | undefined;
}

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

export const gatherA = (g: GemmContext): Gather => {
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
  return gather(g, { ...side('b', plan.b), axes: plan.n, extent: n, ...place }).step;
};

/** Rows and k beyond their ends must fail some guard: where there is none, one that nothing else fails. */
const side = (name: Side['name'], operand: GemmOperand) => ({
  name,
  operand,
  guards: operand.guards.length > 0 ? operand.guards : [{ coefs: new Map(), constant: 0, extent: 1 }],
});

/** [k][offset, parts of guards], with a step more than there are: blocks that share k unevenly may look there. */
function gatherTable({ plan, steps, elementBytes, k }: GemmShape, { operand, guards }: Side): number[] {
  const table: number[] = [];
  for (let at = 0; at < ((steps + 1) * STEP_BYTES) / elementBytes; at++) {
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

function gather(g: GemmContext, from: Side): Gather {
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
  const type = elementBytes === 4 ? 'b32' : 'b16';
  /** Calls one of the two for each element of a chunk: in warps without a guard that could fail, and in others with its table entry. */
  const eachElement = (
    c: number,
    step: number,
    plain: (row: Row, e: number, i: number, offset: string) => void,
    guarded: (row: Row, e: number, i: number, offset: string, inside: string) => void,
  ): void => {
    const place = c * warps * perChunk + step * perStep;
    const [slow, done] = [w.newLabel(), w.newLabel()];
    if (exact || g.shape.k >= place + perChunk) {
      const whole = exact ? free : w.op('pred', 'setp.le.and.u32', at, g.shape.k - place - perChunk, free);
      w.line(`@!${whole} bra ${slow}`);
      for (let e = 0; e < perChunk; e++) {
        const offset = w.op('b32', 'ld.global.nc.b32', `[${table}+${(place + e) * ROW_BYTES}]`);
        for (const [i, row] of rows.entries()) plain(row, e, i, w.op('b32', 'add.s32', row.offset, offset));
      }
      w.line(`bra ${done}`);
    }
    w.label(slow);
    for (let e = 0; e < perChunk; e++) {
      const entry = w.regs('b32', 4);
      w.line(`ld.global.nc.v4.b32 {${entry.join(', ')}}, [${table}+${(place + e) * ROW_BYTES}]`);
      for (const [i, row] of rows.entries())
        guarded(row, e, i, w.op('b32', 'add.s32', row.offset, entry[0]), insideGuards(g, row.parts, entry, guards));
    }
    w.label(done);
  };
  const store = (c: number, values: readonly (readonly string[])[], stage: string): void => {
    const to = w.op('b32', 'add.s32', places[c], stage);
    for (const [i, elements] of values.entries()) {
      const words = elementBytes === 4 ? elements : pairsOf(g, elements);
      w.line(`st.shared.v4.b32 [${to}+${i * 32 * STEP_BYTES}], {${words.join(', ')}}`);
    }
  };
  const advance = (steps: number): void => {
    w.line(`add.s64 ${table}, ${table}, ${steps * perStep * ROW_BYTES}`);
    if (!exact) w.line(`add.s32 ${at}, ${at}, ${steps * perStep}`);
  };
  const firstSteps = (most: number): FirstSteps | undefined => {
    const count = Math.min(most, Math.ceil(g.shape.steps / g.tile.split));
    if (count * chunks.length * perChunk * rows.length > MOST_HELD) return undefined;
    const each = <T>(body: (step: number, c: number) => T): T[][] =>
      Array.from({ length: count }, (_, step) => chunks.map((_chunk, c) => body(step, c)));
    // Offsets of elements inside are not negative.
    const offsets = each((step, c) => {
      const found = rows.map(() => w.regs('b32', perChunk));
      const keep = (_: Row, e: number, i: number, offset: string): void => w.line(`mov.b32 ${found[i][e]}, ${offset}`);
      eachElement(c, step, keep, (_, e, i, offset, inside) =>
        w.line(`selp.b32 ${found[i][e]}, ${offset}, -1, ${inside}`),
      );
      return found;
    });
    advance(count);
    const values = each(() => rows.map(() => w.regs(type, perChunk)));
    return {
      count,
      load: () => {
        for (const [step, byChunk] of offsets.entries())
          for (const [c, byRow] of byChunk.entries())
            for (const [i, elements] of byRow.entries())
              for (const [e, offset] of elements.entries())
                loadElement(g, pointer, offset, values[step][c][i][e], w.op('pred', 'setp.ge.s32', offset, 0));
      },
      store: (step, stage) => {
        for (const [c, byRow] of values[step].entries()) store(c, byRow, stage);
      },
    };
  };
  const step: GatherStep = (stage) => {
    const loaded = chunks.map((_, c) => {
      const values = rows.map(() => w.regs(type, perChunk));
      eachElement(
        c,
        0,
        (_row, e, i, offset) => loadElement(g, pointer, offset, values[i][e]),
        (_row, e, i, offset, inside) => loadElement(g, pointer, offset, values[i][e], inside),
      );
      return values;
    });
    advance(1);
    return () => {
      for (const [c, values] of loaded.entries()) store(c, values, stage);
    };
  };
  return { step, first: firstSteps };
}

/** True in warps whose rows lie so far inside that no k within its end can fail a guard. */
function freeOfGuards(g: GemmContext, { guards }: Side, rows: readonly Row[]): string {
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
