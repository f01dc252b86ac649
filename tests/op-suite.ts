/**
 * The suite of all operators' cases, for any runner of graphs. The definition is eval; a runner must agree with it.
 *
 * What a runner cannot do is a row of its gaps with the reason. A gap that closes fails the test, so the list stays true.
 */
import { describe, expect, it } from 'vitest';
import type { DType } from '../src/core/dtype.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { evalGraph } from '../src/graph/eval.ts';
import type { Graph } from '../src/graph/ir.ts';
import { OPS } from '../src/ops/all.ts';
import type { Op, OpCase } from '../src/ops/op.ts';
import { caseGraph, difference, tolerance } from './op-cases.ts';

export interface Gap {
  readonly ops: readonly string[];
  /** Cases that use one of these dtypes; all where not given. */
  readonly dtypes?: readonly DType[];
  /** Cases whose names match. */
  readonly names?: RegExp;
  /** `refused`: it does not run at all. `differs`: it runs and gives something else. */
  readonly how: 'refused' | 'differs';
  /** How far it may differ. */
  readonly within?: number;
  readonly why: string;
}

export interface Runner {
  readonly name: string;
  /** Operators that it has something of its own for; all where not given. */
  takes?(op: Op): boolean;
  /** Outputs by name; undefined where it has nothing of its own for the graph. */
  run(graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<ReadonlyMap<string, Tensor> | undefined>;
  readonly gaps: readonly Gap[];
}

/** Inputs of case i are drawn from seed FIRST_SEED + 100·i; it is in the name of the test. */
const FIRST_SEED = 1000;

/** One test a case of the operator. */
export function itEach(op: Op, test: (c: OpCase, seed: number) => void | Promise<void>): void {
  op.cases.forEach((c, i) => {
    const seed = FIRST_SEED + 100 * i;
    it(`${op.key}: ${c.name} (seed ${seed})`, () => test(c, seed));
  });
}

/** Every operator's cases on the runner. Evaluation also compares the outputs' types with what inference said. */
export function opSuite(runner: Runner): void {
  describe(runner.name, () => {
    for (const op of OPS.values()) {
      if (runner.takes && !runner.takes(op)) continue;
      itEach(op, async (c, seed) => {
        const { graph, inputs } = caseGraph(op, c, OPS, seed);
        const expected = evalGraph(graph, OPS, inputs);
        const gap = runner.gaps.find((g) => coversCase(g, op, c, graph));
        if (gap?.how === 'refused') {
          await expect(runner.run(graph, inputs), gap.why).rejects.toThrow();
          return;
        }
        const actual = await runner.run(graph, inputs);
        if (!actual) return;
        const errors = [...expected].map(([name, v]) => ({
          error: difference(actual.get(name)!, v),
          dtype: v.dtype,
          name,
        }));
        if (gap)
          expect(
            errors.some(({ error, dtype }) => error > tolerance(dtype, c)),
            gap.why,
          ).toBe(true);
        for (const { error, dtype, name } of errors) {
          const most = gap ? (gap.within ?? Number.POSITIVE_INFINITY) : tolerance(dtype, c);
          expect(error, name).toBeLessThanOrEqual(most);
        }
      });
    }
  });
}

function coversCase(gap: Gap, op: Op, c: OpCase, graph: Graph): boolean {
  if (!gap.ops.includes(op.key) || (gap.names && !gap.names.test(c.name))) return false;
  return gap.dtypes === undefined || [...graph.values.values()].some((t) => gap.dtypes!.includes(t.dtype));
}
