/**
 * Steps that bring the sizes that the data decide into the table of sizes: behind a step that counts, one that stores its counts, none
 * more than its size can be, and all words that are made of them and of what is known by then.
 *
 *     sizes[3] = n    with n = min(max(counts[0], 0), most)
 *     sizes[4] = 2·n + sizes[0]
 *
 * Whoever runs the engine fills the other words beforehand. What must hold: no step reads a word before it is stored.
 */
import { Bug, ModelError } from '../core/errors.ts';
import { type Dim, type DimTerm, namesIn, sym } from '../core/shape.ts';
import * as e from '../loop/expr.ts';
import type { Buffer, Expr, Kernel, Stmt } from '../loop/ir.ts';
import { wordsOf } from './at-sizes.ts';
import type { DataSize } from './data-sizes.ts';
import type { Operand } from './kernel-writer.ts';
import type { RawStep } from './lower.ts';
import { type SizeTable, TABLE } from './size-table.ts';
import type { Block, Storage } from './storage.ts';

/** Gives every name that words made of counts are made of a word of its own. */
export function nameWords(table: SizeTable, data: readonly DataSize[]): void {
  const names = new Set(data.map(({ name }) => name));
  const made = table.formulas.filter((formula) => namesIn(formula).some((name) => names.has(name)));
  const all = [...names, ...[...made, ...data.map(({ atMost }) => atMost)].flatMap(namesIn)];
  for (const name of all) table.slotOf(sym(name));
}

/** The steps with those that store words in between. `block` is the table. Throws ModelError `shape-open`. */
export function withCountSteps(
  steps: readonly RawStep[],
  block: Block,
  table: SizeTable,
  data: readonly DataSize[],
): readonly RawStep[] {
  /** For each name the step that counts it. */
  const counted = new Map(data.map((size) => [size.name, counterOf(steps, size)] as const));
  /** For each word the step after which it is there; -1: before all. */
  const ready = table.formulas.map((formula) =>
    namesIn(formula).reduce((last, name) => Math.max(last, counted.get(name) ?? -1), -1),
  );
  checkOrder(steps, ready, table);
  return steps.flatMap((step, i) => {
    const own = data.filter(({ name }) => counted.get(name) === i);
    if (own.length === 0) return [step];
    const words = ready.flatMap((at, slot) => (at === i ? [slot] : []));
    return [step, countStep(step, own, words, block, table)];
  });
}

function counterOf(steps: readonly RawStep[], { name, counts }: DataSize): number {
  const at = steps.findIndex((s) => s.operands.some((o) => o.role === 'out' && o.value === counts));
  if (at < 0) throw new Bug('size-uncounted', `no step counts the size ${name}`);
  return at;
}

function checkOrder(steps: readonly RawStep[], ready: readonly number[], table: SizeTable): void {
  for (const [i, step] of steps.entries()) {
    const early = [...wordsOf(step.kernel)].find((slot) => ready[slot] >= i);
    if (early === undefined) continue;
    const names = namesIn(table.formulas[early]).join(', ');
    throw new ModelError('shape-open', `${step.loc.join('+')} needs a size before it is counted (${names})`, {
      hint: 'run the model on target reference',
    });
  }
}

function countStep(
  counter: RawStep,
  own: readonly DataSize[],
  words: readonly number[],
  block: Block,
  table: SizeTable,
): RawStep {
  const operands: Operand[] = [];
  const buffers: Buffer[] = [];
  const add = (name: string, value: string, role: 'in' | 'out', storage: Storage): void => {
    operands.push({ value, role, storage });
    buffers.push({ name, dtype: 'i32', elements: storage.block.elements, role });
  };
  const whole: Storage = { block, offset: 0, shape: [block.elements], strides: [1] };
  for (const { counts } of own) {
    if (operands.some((o) => o.value === counts)) continue;
    const made = counter.operands.find((o) => o.role === 'out' && o.value === counts) as Operand;
    add(`in${operands.length}`, counts, 'in', made.storage);
  }
  add(TABLE, TABLE, 'in', whole);
  add('out0', TABLE, 'out', whole);
  const inputs = new Map(operands.map(({ value, role }, i) => [role === 'in' ? value : '', buffers[i].name]));

  const body: Stmt[] = [];
  const locals = new Map<string, Expr>();
  const sizeOf = (name: string): Expr => locals.get(name) ?? e.load(TABLE, 'i32', e.index(table.slotOf(sym(name))));
  for (const [k, { name, atMost, counts, at }] of own.entries()) {
    const count = e.load(inputs.get(counts) as string, 'i32', e.index(at));
    const value = e.min(e.max(count, e.index(0)), dimExpr(atMost, sizeOf));
    body.push({ kind: 'let', local: `n${k}`, dtype: 'i32', value });
    locals.set(name, e.local(`n${k}`, 'i32'));
  }
  for (const slot of words)
    body.push({
      kind: 'store',
      buffer: 'out0',
      index: e.index(slot),
      value: dimExpr(table.formulas[slot], sizeOf),
    });
  const kernel: Kernel = {
    name: 'routine_i32_1',
    form: { kind: 'routine', name: 'sizes' },
    buffers,
    axes: [],
    body,
  };
  return { kernel, operands, loc: counter.loc };
}

/** A dim as an i32 expression of its names. */
function dimExpr(dim: Dim, sizeOf: (name: string) => Expr): Expr {
  if (typeof dim === 'number') return e.index(dim);
  const term = ({ name, coef, of }: DimTerm): Expr => {
    const x = of ? formulaExpr(of, sizeOf) : sizeOf(name);
    return e.mul(x, e.index(coef));
  };
  return dim.terms.reduce((sum, t) => e.add(sum, term(t)), e.index(dim.constant));
}

function formulaExpr({ op, a, b }: NonNullable<DimTerm['of']>, sizeOf: (name: string) => Expr): Expr {
  const [x, y] = [dimExpr(a, sizeOf), dimExpr(b, sizeOf)];
  if (op !== 'floordiv') return e.binary(op, x, y);
  // A division by 0 gives 0.
  const isZero = e.binary('eq', y, e.index(0));
  return e.select(isZero, e.index(0), e.binary('floordiv', x, e.select(isZero, e.index(1), y)));
}
