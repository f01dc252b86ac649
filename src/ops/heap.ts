/**
 * Heaps of positions inside one kernel: order a few numbers or many without memory beside one array of them.
 *
 *     heap[0] comes before all; heap[i] not after heap[2i + 1] and heap[2i + 2] */
import { add, axis, binary, index, local, select, sub } from '../loop/expr.ts';
import type { Expr, Stmt } from '../loop/ir.ts';
import type { KernelContext, Scratch } from './op.ts';
import { assign } from './rows.ts';

/** Levels of the largest array that there can be. */
const LEVELS = 31;

/** Statements that set the bool local `into` to whether position a comes before position b. */
export type Before = (a: Expr, b: Expr, into: string) => readonly Stmt[];

export interface Heap {
  /** Makes a heap of the first `size` numbers of the array; `most` is what size cannot exceed. */
  build(size: Expr, most: number): readonly Stmt[];
  /** Brings the number at the root down to its place among the first `size`. */
  sink(size: Expr): readonly Stmt[];
}

export function heapIn(ctx: KernelContext<unknown>, array: Scratch, before: Before): Heap {
  const when = (cond: Expr, ...body: Stmt[]): Stmt => ({ kind: 'if', cond, body });
  const firstChild = (of: Expr): Expr => add(binary('mul', of, index(2)), index(1));

  /** The item at `from` goes down while a child of it comes before it. */
  const down = (from: Expr, size: Expr): readonly Stmt[] => {
    const names = ['at', 'child', 'item', 'other', 'next', 'isBefore'].map((hint) => ctx.fresh(hint));
    const [at, child, item, other, next] = names.slice(0, 5).map((name) => local(name, 'i32'));
    const isBefore = local(names[5], 'bool');
    const sibling = add(child, index(1));
    const step: Stmt[] = [
      assign(names[4], array.load(child)),
      // Which of two children comes first nobody can foretell, so there is no branch.
      when(
        binary('lt', sibling, size),
        assign(names[3], array.load(sibling)),
        ...before(other, next, names[5]),
        assign(names[1], select(isBefore, sibling, child)),
        assign(names[4], select(isBefore, other, next)),
      ),
      ...before(next, item, names[5]),
      when(isBefore, array.store(at, next), assign(names[0], child)),
      assign(names[1], select(isBefore, firstChild(child), size)),
    ];
    const levels = { name: ctx.fresh('level'), extent: LEVELS };
    return [
      assign(names[0], from),
      assign(names[2], array.load(from)),
      assign(names[1], firstChild(from)),
      { kind: 'scan', axis: levels, while: binary('lt', child, size), body: step },
      array.store(at, item),
    ];
  };

  return {
    build(size, most) {
      const h = ctx.fresh('h');
      const parents = ctx.fresh('parents');
      const left = sub(local(parents, 'i32'), axis(h));
      const body = down(sub(left, index(1)), size);
      return [
        assign(parents, binary('floordiv', size, index(2))),
        { kind: 'scan', axis: { name: h, extent: most }, while: binary('gt', left, index(0)), body },
      ];
    },
    sink: (size) => down(index(0), size),
  };
}
