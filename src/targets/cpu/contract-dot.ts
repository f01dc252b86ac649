/**
 * Products whose operands are both contiguous along k, such as q·kᵀ: vectors along k, a tile of rows × columns of dot products.
 *
 *     tile = batch × block of rows;  for 2 rows:  for 4 columns:  acc[r][c] += a[row r][k…] · b[column c][k…]
 *
 * The lanes of each accumulator are added at the end, and the epilogue runs on each sum.
 */
import { Bug } from '../../core/errors.ts';
import * as e from '../../loop/expr.ts';
import { touchedBytes } from '../../loop/footprint.ts';
import type { Axis, Expr, Kernel } from '../../loop/ir.ts';
import type { Asm, Reg } from './asm.ts';
import { type ContractPlan, extentOf, hasLimit, mayOverreach, planContract } from './contract-plan.ts';
import { ExprEmitter } from './emit-expr.ts';
import { ExprTable } from './linear.ts';
import { coordinates, partOf, presentTiles } from './present-tiles.ts';
import type { Scopes } from './scopes.ts';
import type { CpuTemplate } from './template.ts';
import { checkLanes, lanesOf, vectorMachine } from './vector-machine.ts';
import { exprMapper, localKey, mapStmts } from './walk.ts';

/** With all operands of a step live, 2·4 accumulators, 2 rows and 4 columns are 14 registers. */
const ROWS = 2;
const COLUMNS = 4;
const ENOUGH_TILES = 16;
const NS_PER_CYCLE = 0.3;

interface DotPlan extends ContractPlan {
  readonly row: Axis | undefined;
  readonly column: Axis;
  readonly run: Axis;
}

/** What joining the lanes of a sum costs beside the other sums, by lanes. */
const JOIN_CYCLES: Readonly<Record<number, number>> = { 4: 3, 8: 0.5, 16: 3 };

export const dot: CpuTemplate = {
  name: 'dot',
  form: 'contract',
  // A constant b is better packed.
  candidates: (kernel, facts, features) => {
    const isLegal = (lanes: number): boolean => {
      const plan = planDot(kernel, lanes);
      return plan !== undefined && !facts.constant.has(plan.b.buffer);
    };
    return lanesOf(features)
      .filter(isLegal)
      .map((lanes) => ({ lanes }));
  },
  predictNs: (kernel, { lanes }) => {
    const plan = planOf(kernel);
    const tiles = Math.ceil(extentOf(plan.m) / ROWS) * Math.ceil(plan.column.extent / COLUMNS) * extentOf(plan.batch);
    const steps = extentOf(plan.k) / lanes;
    const products = (ROWS * COLUMNS) / vectorMachine(lanes).multiplyAdds;
    const cycles = tiles * (steps * (products + 1.2) + ROWS * COLUMNS * (JOIN_CYCLES[lanes] ?? 3) + 20);
    const bytes = touchedBytes(kernel);
    return Math.max(cycles * NS_PER_CYCLE, bytes / 10);
  },
  tiles: (kernel) => {
    const plan = planOf(kernel);
    return extentOf(plan.batch) * blocksOf(plan).count;
  },
  emit: (asm, kernel, { lanes }) => {
    checkLanes(asm, lanes);
    new DotEmitter(asm, kernel, planOf(kernel)).run();
  },
};

function planOf(kernel: Kernel): DotPlan {
  const plan = planDot(kernel);
  if (!plan) throw new Bug('cpu-plan', `kernel ${kernel.name} is no product along contiguous k`);
  return plan;
}

function planDot(kernel: Kernel, leastRun = 1): DotPlan | undefined {
  const plan = planContract(kernel);
  const run = plan?.k.at(-1);
  if (!plan || !run || plan.a.guard || plan.m.length > 1 || plan.n.length !== 1 || run.extent < leastRun)
    return undefined;
  if ((hasLimit(plan.m) || hasLimit(plan.n)) && !mayOverreach(plan)) return undefined;
  const table = new ExprTable();
  if ([plan.a, plan.b].some(({ index }) => table.strideAlong(index, run.name) !== 1)) return undefined;
  return { ...plan, row: plan.m[0], column: plan.n[0], run };
}

/** Rows are shared out in blocks of a multiple of the register tile's. */
function blocksOf(plan: ContractPlan) {
  const m = extentOf(plan.m);
  const wanted = Math.ceil(ENOUGH_TILES / extentOf(plan.batch));
  const rows = Math.ceil(Math.ceil(m / wanted) / ROWS) * ROWS;
  return { rows, count: Math.ceil(m / rows) };
}

class DotEmitter {
  readonly #asm: Asm;
  readonly #exprs: ExprEmitter;
  readonly #scopes: Scopes;
  readonly #plan: DotPlan;

  constructor(asm: Asm, kernel: Kernel, plan: DotPlan) {
    this.#asm = asm;
    this.#exprs = new ExprEmitter(asm, kernel);
    this.#scopes = this.#exprs.scopes;
    this.#plan = plan;
  }

  run(): void {
    const asm = this.#asm;
    const { rows, count } = blocksOf(this.#plan);
    const c = (value: number) => asm.const('i32', value);
    const { batch, m, n, k } = this.#plan;
    for (const axis of [...batch, ...m, ...n, ...k]) this.#exprs.value(e.boundOf(axis));
    const { begin, end } = presentTiles(asm, this.#exprs, batch, count);
    const { row } = this.#plan;
    const share = row?.limit ? partOf(asm, this.#exprs.value(e.boundOf(row)), count, ROWS) : c(rows);
    asm.loop(begin, end, 1, (tile) =>
      this.#scopes.scope(() => {
        const coords = coordinates(asm, this.#exprs, batch, asm.op('div_u', [tile, c(count)]));
        batch.forEach((axis, i) => {
          this.#scopes.bind(axis.name, { kind: 'register', reg: coords[i] });
        });
        const from = asm.op('mul', [asm.op('rem_u', [tile, c(count)]), share]);
        this.#rows(from, asm.op('add', [from, share]));
      }),
    );
  }

  /** Rows [from, to) in pairs; the last one alone where their number is odd. */
  #rows(from: Reg, to: Reg): void {
    const { row } = this.#plan;
    const m = row?.extent ?? 1;
    this.#axisLoop(row, from, to, m, ROWS, (rows) => {
      const { column } = this.#plan;
      const zero = this.#asm.const('i32', 0);
      this.#axisLoop(column, zero, this.#asm.const('i32', column.extent), column.extent, COLUMNS, (columns) => {
        this.#tile(rows, columns);
      });
    });
  }

  /**
   * `body` for `step` positions at a time over [from, to) below `extent`, then for single ones. The last tile of several may reach
   * over a limit.
   */
  #axisLoop(
    axis: Axis | undefined,
    from: Reg,
    to: Reg,
    extent: number,
    step: number,
    body: (count: number) => void,
  ): void {
    const asm = this.#asm;
    const whole = extent - (extent % step);
    const end = axis?.limit && this.#exprs.value(e.boundOf(axis));
    const bounded = (most: number, there: Reg | undefined) => {
      const last = asm.op('min', [to, asm.const('i32', most)]);
      return there ? asm.op('min', [last, there]) : last;
    };
    const up = end && asm.op('and', [asm.op('add', [end, asm.const('i32', step - 1)]), asm.const('i32', -step)]);
    const loop = (first: Reg, last: Reg, count: number) =>
      asm.loop(first, last, count, (i) =>
        this.#scopes.scope(() => {
          if (axis) this.#scopes.bind(axis.name, { kind: 'register', reg: i });
          body(count);
        }),
      );
    if (whole > 0) loop(from, bounded(whole, up), step);
    if (whole < extent) loop(asm.op('max', [from, asm.const('i32', whole)]), bounded(extent, end), 1);
  }

  #tile(rows: number, columns: number): void {
    const asm = this.#asm;
    const { a, b, k, run, row, column } = this.#plan;
    const along = (index: Expr, axis: Axis | undefined, by: number): Expr =>
      exprMapper((x) => (by > 0 && x.kind === 'axis' && x.name === axis?.name ? e.add(x, e.index(by)) : x))(index);
    const left = Array.from({ length: rows }, (_, r) => along(a.index, row, r));
    const right = Array.from({ length: columns }, (_, c) => along(b.index, column, c));
    const zeros = (type: 'vf32' | 'f32') =>
      left.map(() =>
        right.map(() => {
          const reg = asm.reg(type);
          asm.move(reg, asm.const(type, 0));
          return reg;
        }),
      );
    const acc = zeros('vf32');
    const rest = zeros('f32');
    const outer = k.filter((axis) => axis !== run);
    const nest = (axes: readonly Axis[]): void => {
      if (axes.length === 0) this.#runOf(left, right, acc, rest);
      else {
        asm.loop(asm.const('i32', 0), this.#exprs.value(e.boundOf(axes[0])), 1, (i) =>
          this.#scopes.scope(() => {
            this.#scopes.bind(axes[0].name, { kind: 'register', reg: i });
            nest(axes.slice(1));
          }),
        );
      }
    };
    nest(outer);
    this.#finish(acc.map((sums, r) => sums.map((sum, c) => asm.op('add', [asm.horizontal('add', sum), rest[r][c]]))));
  }

  /** One run along k: whole vectors, then the elements behind them. */
  #runOf(left: readonly Expr[], right: readonly Expr[], acc: readonly Reg[][], rest: readonly Reg[][]): void {
    const asm = this.#asm;
    const { a, b, run } = this.#plan;
    this.#scopes.bind(run.name, { kind: 'constant', value: 0 });
    const rows = left.map((index) => this.#exprs.address(a.buffer, index));
    const columns = right.map((index) => this.#exprs.address(b.buffer, index));
    const whole = run.extent - (run.extent % asm.lanes);
    const step = (type: 'vf32' | 'f32', k: Reg | undefined, offset: number, into: readonly Reg[][]) => {
      const load = ({ base, byteOffset }: { base: Reg; byteOffset: number }) =>
        asm.load(type, k ? asm.address(base, k, 4) : base, byteOffset + offset);
      const x = rows.map(load);
      columns.forEach((at, c) => {
        const y = load(at);
        x.forEach((value, r) => {
          asm.fma(into[r][c], value, y);
        });
      });
    };
    if (run.limit) {
      const end = this.#exprs.value(e.boundOf(run));
      const vectors = asm.op('and', [end, asm.const('i32', -asm.lanes)]);
      asm.loop(asm.const('i32', 0), vectors, asm.lanes, (k) => step('vf32', k, 0, acc));
      asm.loop(vectors, end, 1, (k) => step('f32', k, 0, rest));
      return;
    }
    asm.loop(asm.const('i32', 0), asm.const('i32', whole), asm.lanes, (k) => step('vf32', k, 0, acc));
    for (let k = whole; k < run.extent; k++) step('f32', undefined, k * 4, rest);
  }

  /** The epilogue, on each sum: a tile's columns are few, and the products before it many. */
  #finish(sums: readonly (readonly Reg[])[]): void {
    const { row, column, epilogue } = this.#plan;
    sums.forEach((columns, r) => {
      columns.forEach((sum, c) => {
        const shift = exprMapper((x) => {
          if (x.kind !== 'axis') return x;
          const by = x.name === row?.name ? r : x.name === column.name ? c : 0;
          return by > 0 ? e.add(x, e.index(by)) : x;
        });
        this.#scopes.bind(localKey('acc'), { kind: 'register', reg: sum });
        for (const s of mapStmts(epilogue, shift)) {
          if (s.kind === 'store') this.#exprs.store(s.buffer, s.index, s.value);
          else if (s.kind === 'let')
            this.#scopes.bind(localKey(s.local), { kind: 'register', reg: this.#exprs.value(s.value) });
        }
      });
    });
  }
}
