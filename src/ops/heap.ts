/**
 * Heaps of positions inside one kernel: order a few numbers or many without memory beside one array of them.
 *
 *     heap[0] comes before all; heap[i] not after heap[2i + 1] and heap[2i + 2]
 *
 * Loop IR has no loop that ends when it likes, so going down is a scan of as many levels as any array can have, of which the ones after
 * the last do nothing.
 */
import { add, axis, binary, index, local, select, sub, unary } from '../loop/expr.ts';
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
  const names = ['at', 'child', 'item', 'other', 'next', 'isBefore'].map((hint) => ctx.fresh(hint));
  const [at, child, item, other, next] = names.slice(0, 5).map((name) => local(name, 'i32'));
  const isBefore = local(names[5], 'bool');
  const and = (a: Expr, b: Expr): Expr => binary('and', a, b);
  const half = (x: Expr): Expr => binary('floordiv', x, index(2));

  /** The item at `from` goes down while a child of it comes before it; `at` is -1 when it has stopped. */
  const down = (from: Expr, size: Expr): readonly Stmt[] => {
    const level = ctx.fresh('level');
    const first = add(binary('mul', at, index(2)), index(1));
    const isInside = binary('lt', child, size);
    const step: Stmt[] = [
      assign(names[1], first),
      {
        kind: 'if',
        cond: isInside,
        body: [
          assign(names[4], array.load(child)),
          {
            kind: 'if',
            cond: binary('lt', add(child, index(1)), size),
            body: [
              assign(names[3], array.load(add(child, index(1)))),
              ...before(other, next, names[5]),
              { kind: 'if', cond: isBefore, body: [assign(names[1], add(child, index(1))), assign(names[4], other)] },
            ],
          },
          ...before(next, item, names[5]),
        ],
      },
      assign(names[5], and(isBefore, isInside)),
      { kind: 'if', cond: isBefore, body: [array.store(at, next)] },
      { kind: 'if', cond: unary('not', isBefore), body: [array.store(at, item)] },
      assign(names[0], select(isBefore, child, index(-1))),
    ];
    return [
      assign(names[0], from),
      assign(names[2], array.load(from)),
      assign(names[3], index(0)),
      assign(names[4], index(0)),
      assign(names[5], isFalse),
      {
        kind: 'scan',
        axis: { name: level, extent: LEVELS },
        body: [{ kind: 'if', cond: binary('ge', at, index(0)), body: step }],
      },
    ];
  };

  return {
    build(size, most) {
      const i = ctx.fresh('h');
      const from = ctx.fresh('from');
      const start = local(from, 'i32');
      return [
        {
          kind: 'scan',
          axis: { name: i, extent: most },
          body: [
            assign(from, sub(sub(half(size), index(1)), axis(i))),
            { kind: 'if', cond: binary('ge', start, index(0)), body: [...down(start, size)] },
          ],
        },
      ];
    },
    sink: (size) => down(index(0), size),
  };
}

const isFalse: Expr = { kind: 'const', dtype: 'bool', value: 0 };
