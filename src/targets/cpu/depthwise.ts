/**
 * Depthwise convolution with channels innermost: vectors of channels, several output columns at a time, taps of a row unrolled.
 *
 *     tile = outer m axes (image, row) × chunk of channels
 *     for columns x, `columns` at a time:  for channels, a vector at a time:
 *       for outer taps (kh):  if the row is inside:  acc[t] += a[row, x+t at tap kw] · w[kh, kw]   for all kw and t
 *
 * An input column is loaded once for all the output columns that see it. Which taps of kw are inside is known for every x when the
 * code is made: columns where all are run in the wide loop, each of the few others has code of its own. Where the width is open, the
 * columns whose taps are all inside begin and end where arithmetic on the guards says; those before and behind ask for each tap.
 * w is packed as panels of one vector of channels: [C / lanes][taps][lanes].
 */
import { Bug } from '../../core/errors.ts';
import * as e from '../../loop/expr.ts';
import type { Axis, Expr, Kernel, Stmt } from '../../loop/ir.ts';
import type { Params } from '../target.ts';
import type { Asm, Reg } from './asm.ts';
import { type ContractPlan, conjuncts, extentOf, hasLimit, planBytes, planContract } from './contract-plan.ts';
import { ExprEmitter } from './emit-expr.ts';
import { laneScore } from './lanes.ts';
import { ExprTable } from './linear.ts';
import { coordinates, presentTiles } from './present-tiles.ts';
import type { Scopes } from './scopes.ts';
import { type TapProducts, tapProducts } from './tap-products.ts';
import type { CpuTemplate } from './template.ts';
import { checkLanes, lanesOf, vectorMachine, vnniFor } from './vector-machine.ts';
import { exprMapper, localKey, mapStmts } from './walk.ts';

const MAX_UNROLLED_TAPS = 9;
const ENOUGH_TILES = 16;
const NS_PER_CYCLE = 0.3;

/** What the template needs to know beside the contract's own plan. */
interface DepthwisePlan extends ContractPlan {
  readonly channel: Axis;
  /** The m axis along a row of the output; undefined where there is one column. */
  readonly column: Axis | undefined;
  readonly outer: readonly Axis[];
  /** The innermost k axis, unrolled. */
  readonly tap: Axis | undefined;
  readonly outerTaps: readonly Axis[];
  /** Conditions on the row, none of which depends on column or tap. */
  readonly rowGuard: Expr | undefined;
  readonly inside: InsideTaps;
  /** Elements between input columns of neighbouring outputs, and of neighbouring taps. */
  readonly columnStride: number;
  readonly tapStride: number;
}

/** Which taps are inside: for each column, or, with an open width, from which column to which all of them are. */
type InsideTaps =
  | { readonly kind: 'known'; readonly taps: readonly (readonly number[])[] }
  | {
      readonly kind: 'open';
      readonly first: number;
      readonly end: Expr;
      /** Of the column and tap that scopes say. */
      readonly guard: Expr | undefined;
    };

/** A tap of a row, and whether it is inside, where that is asked. */
interface Tap {
  readonly k: number;
  readonly inside?: Reg;
}

export const depthwise: CpuTemplate = {
  name: 'depthwise',
  form: 'contract',
  candidates: (kernel, facts, features) => {
    const plan = planDepthwise(kernel);
    if (!plan || !facts.constant.has(plan.b.buffer)) return [];
    return lanesOf(features).flatMap((lanes) => {
      const most = columnsThatFit(plan, lanes);
      const vnni = plan.a.dtype === 'f32' ? {} : { vnni: vnniFor(lanes, features) };
      return (most > 1 ? [most, 1] : [1]).map((columns) => ({ lanes, columns, ...vnni }));
    });
  },
  predictNs: (kernel, { lanes, columns }) => {
    const plan = planOf(kernel);
    // Channels behind the last whole vector go one by one.
    const rest = plan.channel.extent % lanes;
    const vectors = (extentOf(plan.m) * (Math.floor(plan.channel.extent / lanes) + rest)) / columns;
    const products = 2 / vectorMachine(lanes).multiplyAdds;
    const taps = plan.tap?.extent ?? 1;
    const loads = taps + (plan.tapStride === 0 ? 1 : (columns - 1) * (plan.columnStride / plan.tapStride) + taps);
    const rows = extentOf(plan.outerTaps);
    return vectors * (rows * Math.max(products * columns * taps, loads, 4) + 10 + 4 * columns) * 0.6 * NS_PER_CYCLE;
  },
  tiles: (kernel, { lanes }) => cutOf(planOf(kernel), lanes).tiles,
  packing: (kernel, { lanes }) => {
    const plan = planOf(kernel);
    return new Map([
      [
        plan.b.buffer,
        plan.a.dtype === 'f32'
          ? { kind: 'panels', width: lanes, batch: 1, k: extentOf(plan.k), n: plan.channel.extent, zeros: 0 }
          : { kind: 'words', width: lanes, k: extentOf(plan.k), n: plan.channel.extent },
      ],
    ]);
  },
  emit: (asm, kernel, params) => {
    checkLanes(asm, params.lanes);
    new DepthwiseEmitter(asm, kernel, planOf(kernel), params).run();
  },
};

function planOf(kernel: Kernel): DepthwisePlan {
  const plan = planDepthwise(kernel);
  if (!plan) throw new Bug('cpu-plan', `kernel ${kernel.name} is no depthwise convolution`);
  return plan;
}

function planDepthwise(kernel: Kernel): DepthwisePlan | undefined {
  const plan = planContract(kernel) ?? planBytes(kernel);
  if (plan?.batch.length !== 1 || plan.n.length > 0) return undefined;
  const table = new ExprTable();
  const [channel] = plan.batch;
  if (table.strideAlong(plan.a.index, channel.name) !== 1) return undefined;
  const column = plan.m.at(-1);
  const tap = plan.k.at(-1);
  if ((tap?.extent ?? 1) > MAX_UNROLLED_TAPS) return undefined;
  // Rows may end at run time; what is unrolled may not.
  if (hasLimit(plan.batch) || hasLimit(plan.k)) return undefined;
  const columnStride = column ? table.strideAlong(plan.a.index, column.name) : 0;
  const tapStride = tap ? table.strideAlong(plan.a.index, tap.name) : 0;
  if (columnStride === undefined || tapStride === undefined || columnStride < 0 || tapStride < 0) return undefined;
  const guards = conjuncts(plan.a.guard);
  const across = new Set([column?.name ?? '', tap?.name ?? '']);
  const columnGuards = guards.filter((g) => table.dependsOn(g, across));
  const others = new Set([channel, ...plan.m, ...plan.k].map(({ name }) => name).filter((name) => !across.has(name)));
  if (columnGuards.some((g) => table.dependsOn(g, others))) return undefined;
  const known = column?.limit ? undefined : insideTaps(table, columnGuards, column, tap);
  const inside = known
    ? ({ kind: 'known', taps: known } as const)
    : column && openTaps(table, columnGuards, column, tap);
  if (!inside) return undefined;
  const rowGuards = guards.filter((g) => !table.dependsOn(g, across));
  return {
    ...plan,
    channel,
    column,
    outer: plan.m.slice(0, -1),
    tap,
    outerTaps: plan.k.slice(0, -1),
    rowGuard: rowGuards.length === 0 ? undefined : rowGuards.reduce((a, b) => e.binary('and', a, b)),
    inside,
    columnStride,
    tapStride,
  };
}

/** The taps inside, for each column; undefined where a condition is no comparison of linear forms. */
export function insideTaps(
  table: ExprTable,
  guards: readonly Expr[],
  column: Axis | undefined,
  tap: Axis | undefined,
): number[][] | undefined {
  const valueAt = (x: Expr, at: ReadonlyMap<string, number>): number | undefined => {
    const { terms, constant } = table.linear(x);
    let sum = constant;
    for (const { atom, coef } of terms) {
      const value = atom.kind === 'axis' ? at.get(atom.name) : undefined;
      if (value === undefined) return undefined;
      sum += coef * value;
    }
    return sum;
  };
  const out: number[][] = [];
  for (let x = 0; x < (column?.extent ?? 1); x++) {
    const inside: number[] = [];
    for (let k = 0; k < (tap?.extent ?? 1); k++) {
      const at = new Map([
        [column?.name ?? '', x],
        [tap?.name ?? '', k],
      ]);
      let holds = true;
      for (const g of guards) {
        const [a, b] = g.kind === 'binary' ? [valueAt(g.a, at), valueAt(g.b, at)] : [undefined, undefined];
        if (g.kind !== 'binary' || a === undefined || b === undefined) return undefined;
        if (g.op !== 'ge' && g.op !== 'lt') return undefined;
        holds &&= g.op === 'ge' ? a >= b : a < b;
      }
      if (holds) inside.push(k);
    }
    out.push(inside);
  }
  return out;
}

/**
 * The columns all of whose taps are inside, where sizes decide: each condition is a linear form of column and tap against what is
 * neither. Undefined where some is not.
 */
function openTaps(
  table: ExprTable,
  guards: readonly Expr[],
  column: Axis,
  tap: Axis | undefined,
): InsideTaps | undefined {
  let first = 0;
  let end = e.boundOf(column);
  for (const g of guards) {
    if (g.kind !== 'binary' || (g.op !== 'ge' && g.op !== 'lt')) return undefined;
    const { terms, constant } = table.linear(e.sub(g.a, g.b));
    const coefOf = (axis: Axis | undefined): number =>
      terms.find(({ atom }) => atom.kind === 'axis' && atom.name === axis?.name)?.coef ?? 0;
    const rest = terms.filter(({ atom }) => !(atom.kind === 'axis' && [column.name, tap?.name].includes(atom.name)));
    const [along, across] = [coefOf(column), coefOf(tap)];
    if (along < 1 || rest.some(({ atom }) => table.info(atom).guarded)) return undefined;
    const reach = across * ((tap?.extent ?? 1) - 1);
    if (g.op === 'ge') {
      if (rest.length > 0) return undefined;
      // along·x + across·k + constant >= 0 for all k
      first = Math.max(first, Math.ceil(-(constant + Math.min(0, reach)) / along));
      continue;
    }
    // along·x + across·k + constant + rest < 0 for all k
    const least = rest.reduce((sum, { atom, coef }) => e.add(sum, e.mul(atom, e.index(coef))), e.index(0));
    const most = e.sub(e.index(along - 1 - constant - Math.max(0, reach)), least);
    end = e.binary('min', end, along === 1 ? most : e.binary('floordiv', most, e.index(along)));
  }
  const guard = guards.length === 0 ? undefined : guards.reduce((a, b) => e.binary('and', a, b));
  return { kind: 'open', first, end: e.binary('max', end, e.index(first)), guard };
}

/** Output columns whose accumulators, inputs and weights of one row of taps are in registers together. */
function columnsThatFit(plan: DepthwisePlan, lanes: number): number {
  const taps = plan.tap?.extent ?? 1;
  // Without VNNI products of bytes pass through a register.
  const spare = plan.a.dtype === 'f32' ? 0 : 1;
  for (let columns = 4; columns > 1; columns--) {
    const inputs = new Set<number>();
    for (let t = 0; t < columns; t++)
      for (let k = 0; k < taps; k++) inputs.add(t * plan.columnStride + k * plan.tapStride);
    if (columns + inputs.size + taps + spare <= vectorMachine(lanes).registers && columns <= (plan.column?.extent ?? 1))
      return columns;
  }
  return 1;
}

/** Tiles: points of the outer m axes, times chunks of channels where those are few. */
function cutOf(plan: DepthwisePlan, lanes: number) {
  const rows = extentOf(plan.outer);
  const wanted = Math.ceil(ENOUGH_TILES / rows);
  const chunk = Math.ceil(Math.max(lanes, plan.channel.extent / wanted) / lanes) * lanes;
  const chunks = Math.ceil(plan.channel.extent / chunk);
  return { chunk, chunks, tiles: rows * chunks };
}

class DepthwiseEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: DepthwisePlan;
  readonly #products: TapProducts;
  readonly #columns: number;
  readonly #epilogueInLanes: boolean;
  readonly #weights: Reg;

  constructor(asm: Asm, kernel: Kernel, plan: DepthwisePlan, params: Params) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
    this.#products = tapProducts(plan.a.dtype);
    this.#columns = params.columns;
    this.#weights = this.#exprs.address(plan.b.buffer, e.index(0)).base;
    const facts = { table: this.#exprs.table, buffers: new Map(kernel.buffers.map((b) => [b.name, b])) };
    const accIsVector: Stmt = {
      kind: 'let',
      local: 'acc',
      dtype: this.#products.dtype,
      value: e.cast(this.#products.dtype, e.axis(plan.channel.name)),
    };
    this.#epilogueInLanes = laneScore(facts, [accIsVector, ...plan.epilogue], plan.channel.name) !== undefined;
  }

  run(): void {
    const asm = this.#asm;
    const { chunk, chunks } = cutOf(this.#plan, asm.lanes);
    const c = (value: number) => asm.const('i32', value);
    const { outer, column, inside } = this.#plan;
    for (const axis of [...outer, ...(column ? [column] : [])]) this.#exprs.value(e.boundOf(axis));
    if (inside.kind === 'open') this.#exprs.value(inside.end);
    const { begin, end } = presentTiles(asm, this.#exprs, outer, chunks);
    asm.loop(begin, end, 1, (tile) =>
      this.#scopes.scope(() => {
        const point = chunks === 1 ? tile : asm.op('div_u', [tile, c(chunks)]);
        const coords = coordinates(asm, this.#exprs, outer, point);
        outer.forEach((axis, i) => {
          this.#scopes.bind(axis.name, { kind: 'register', reg: coords[i] });
        });
        const from = chunks === 1 ? c(0) : asm.op('mul', [asm.op('rem_u', [tile, c(chunks)]), c(chunk)]);
        const to =
          chunks === 1
            ? c(this.#plan.channel.extent)
            : asm.op('min', [asm.op('add', [from, c(chunk)]), c(this.#plan.channel.extent)]);
        if (inside.kind === 'open') this.#openRow(inside, from, to);
        else this.#row(inside.taps, from, to);
      }),
    );
  }

  /** All columns of a row, channels [from, to). */
  #row(taps: readonly (readonly number[])[], from: Reg, to: Reg): void {
    const { column, tap } = this.#plan;
    const all = tap?.extent ?? 1;
    const isFull = (x: number) => taps[x].length === all;
    let first = 0;
    while (first < taps.length && !isFull(first)) first++;
    let end = first;
    while (end < taps.length && isFull(end)) end++;
    const single = (x: number) => {
      if (column) this.#scopes.bind(column.name, { kind: 'constant', value: x });
      this.#block(1, taps[x], from, to);
    };
    for (let x = 0; x < first; x++) single(x);
    const wide = first + Math.floor((end - first) / this.#columns) * this.#columns;
    if (column && wide > first) {
      const c = (value: number) => this.#asm.const('i32', value);
      this.#asm.loop(c(first), c(wide), this.#columns, (x) =>
        this.#scopes.scope(() => {
          this.#scopes.bind(column.name, { kind: 'register', reg: x });
          this.#block(this.#columns, taps[first], from, to);
        }),
      );
    }
    for (let x = column ? wide : first; x < taps.length; x++) single(x);
  }

  /** The same with an open width: columns before those that have all taps, those, columns behind. */
  #openRow({ first, end, guard }: Extract<InsideTaps, { kind: 'open' }>, from: Reg, to: Reg): void {
    const asm = this.#asm;
    const { tap } = this.#plan;
    const column = this.#plan.column as Axis;
    const c = (value: number) => asm.const('i32', value);
    const all = Array.from({ length: tap?.extent ?? 1 }, (_, k) => k);
    const width = this.#exprs.value(e.boundOf(column));
    const behind = this.#exprs.value(end);
    const wide = asm.op('sub', [behind, asm.op('rem_u', [asm.op('sub', [behind, c(first)]), c(this.#columns)])]);
    const loop = (start: Reg, stop: Reg, columns: number, asks: Expr | undefined): void =>
      asm.loop(start, stop, columns, (x) =>
        this.#scopes.scope(() => {
          this.#scopes.bind(column.name, { kind: 'register', reg: x });
          this.#block(columns, all, from, to, asks);
        }),
      );
    loop(c(first), wide, this.#columns, undefined);
    if (this.#columns > 1) loop(wide, behind, 1, undefined);
    if (!guard) return;
    // Columns at either end, in one loop: those before the first, then those from `behind` on.
    const before = asm.op('min', [c(first), width]);
    const skipped = asm.op('sub', [behind, before]);
    asm.loop(c(0), asm.op('add', [before, asm.op('max', [c(0), asm.op('sub', [width, behind])])]), 1, (i) =>
      this.#scopes.scope(() => {
        const x = asm.select(asm.op('lt', [i, before]), i, asm.op('add', [i, skipped]));
        this.#scopes.bind(column.name, { kind: 'register', reg: x });
        this.#block(1, all, from, to, guard);
      }),
    );
  }

  /** `columns` outputs side by side with the same taps, of which those are inside that `guard` lets through, over the channels: vectors, then single ones. */
  #block(columns: number, taps: readonly number[], from: Reg, to: Reg, guard?: Expr): void {
    const asm = this.#asm;
    const { channel } = this.#plan;
    const whole = asm.const('i32', channel.extent - (channel.extent % asm.lanes));
    const names = [channel, ...this.#plan.outerTaps].map((a) => a.name);
    this.#scopes.scope(() => {
      const known = taps.map((k): Tap => ({ k }));
      const asked = guard && taps.map((k): Tap => ({ k, inside: this.#exprs.value(this.#atTap(guard, k)) }));
      const row = asked ?? known;
      this.#exprs.prepare(this.#reads(), names);
      asm.loop(from, asm.op('min', [to, whole]), asm.lanes, (c) =>
        this.#scopes.scope(() => {
          this.#scopes.bind(channel.name, { kind: 'lanes', base: c, offset: 0 });
          this.#point(columns, row, asm.address(this.#weights, c, extentOf(this.#plan.k) * 4), true);
        }),
      );
      if (channel.extent % asm.lanes === 0) return;
      // Channels behind the last whole vector: their weights are lanes of the last panel.
      asm.if(asm.op('gt', [to, whole]), () =>
        asm.loop(whole, to, 1, (c) =>
          this.#scopes.scope(() => {
            this.#scopes.bind(channel.name, { kind: 'register', reg: c });
            const panel = asm.address(this.#weights, whole, extentOf(this.#plan.k) * 4);
            this.#point(columns, row, asm.address(panel, asm.op('sub', [c, whole]), 4), false);
          }),
        ),
      );
    });
  }

  /** An expression of the tap, for tap `k`. */
  #atTap(x: Expr, k: number): Expr {
    const { tap } = this.#plan;
    return exprMapper((node) => (node.kind === 'axis' && node.name === tap?.name ? e.index(k) : node))(x);
  }

  #reads(): Stmt[] {
    const { a, rowGuard } = this.#plan;
    const read = (value: Expr): Stmt => ({ kind: 'let', local: '', dtype: value.dtype, value });
    if (this.#plan.tap) this.#scopes.bind(this.#plan.tap.name, { kind: 'constant', value: 0 });
    return [
      ...(rowGuard ? [read(rowGuard)] : []),
      read(e.select(e.constant('bool', 1), e.load(a.buffer, a.dtype, a.index), e.constant(a.dtype, 0))),
    ];
  }

  /** One vector (or element) of channels of `columns` outputs. */
  #point(columns: number, taps: readonly Tap[], weights: Reg, isVector: boolean): void {
    const asm = this.#asm;
    const { dtype } = this.#products;
    const type = isVector ? (`v${dtype}` as const) : dtype;
    const zero = asm.const(type, 0);
    const acc = Array.from({ length: columns }, () => {
      const reg = asm.reg(type);
      asm.move(reg, zero);
      return reg;
    });
    if (taps.length > 0) this.#tapLoops(this.#plan.outerTaps, taps, weights, acc, isVector);
    acc.forEach((sum, t) => {
      this.#finish(sum, t);
    });
  }

  #tapLoops(axes: readonly Axis[], taps: readonly Tap[], weights: Reg, acc: readonly Reg[], isVector: boolean): void {
    const asm = this.#asm;
    if (axes.length > 0) {
      const inner = extentOf(axes.slice(1)) * (this.#plan.tap?.extent ?? 1) * asm.lanes * 4;
      asm.loop(asm.const('i32', 0), asm.const('i32', axes[0].extent), 1, (i) =>
        this.#scopes.scope(() => {
          this.#scopes.bind(axes[0].name, { kind: 'register', reg: i });
          this.#tapLoops(axes.slice(1), taps, asm.address(weights, i, inner), acc, isVector);
        }),
      );
      return;
    }
    const { rowGuard } = this.#plan;
    if (!rowGuard) this.#taps(taps, weights, acc, isVector);
    else asm.if(this.#exprs.value(rowGuard), () => this.#scopes.scope(() => this.#taps(taps, weights, acc, isVector)));
  }

  /** One row of taps: each input column and each weight is loaded once. */
  #taps(taps: readonly Tap[], weights: Reg, acc: readonly Reg[], isVector: boolean): void {
    const asm = this.#asm;
    const products = this.#products;
    const { a, tap, columnStride, tapStride } = this.#plan;
    if (taps.some(({ inside }) => inside)) {
      for (const { k, inside } of taps) {
        const one = () => this.#scopes.scope(() => this.#taps([{ k }], weights, acc, isVector));
        if (inside) asm.if(inside, one);
        else one();
      }
      return;
    }
    // The first tap inside is the base: what lies before it may be outside the buffer.
    const [{ k: first }] = taps;
    if (tap) this.#scopes.bind(tap.name, { kind: 'constant', value: first });
    const { base, byteOffset } = this.#exprs.address(a.buffer, a.index);
    const inputs = new Map<number, Reg>();
    const input = (elements: number): Reg => {
      const known = inputs.get(elements) ?? products.input(asm, isVector, base, byteOffset + elements * products.bytes);
      inputs.set(elements, known);
      return known;
    };
    for (const { k } of taps) {
      const weight = products.weight(asm, isVector, weights, k * asm.lanes * 4);
      acc.forEach((sum, t) => {
        products.add(asm, sum, input(t * columnStride + (k - first) * tapStride), weight);
      });
    }
  }

  #finish(sum: Reg, t: number): void {
    const asm = this.#asm;
    const { channel, column } = this.#plan;
    const shifted = exprMapper((x) =>
      t > 0 && x.kind === 'axis' && x.name === column?.name ? e.add(x, e.index(t)) : x,
    );
    const epilogue = mapStmts(this.#plan.epilogue, shifted);
    const run = (acc: Reg) => {
      this.#scopes.bind(localKey('acc'), { kind: 'register', reg: acc });
      for (const s of epilogue) {
        if (s.kind === 'store') this.#exprs.store(s.buffer, s.index, s.value);
        else if (s.kind === 'let')
          this.#scopes.bind(localKey(s.local), { kind: 'register', reg: this.#exprs.value(s.value) });
      }
    };
    const binding = this.#scopes.binding(channel.name);
    if (sum.type === this.#products.dtype || this.#epilogueInLanes || binding?.kind !== 'lanes') {
      run(sum);
      return;
    }
    const saved = this.#scopes.save([channel.name]);
    for (let lane = 0; lane < asm.lanes; lane++) {
      const at = asm.op('add', [binding.base, asm.const('i32', lane)]);
      this.#scopes.bind(channel.name, { kind: 'register', reg: at });
      run(asm.extract(sum, lane));
    }
    this.#scopes.restore(saved);
  }
}
