import fc from 'fast-check';
import { expect, test } from 'vitest';
import { randomBuffers, randomContract, randomKernel } from '../../tests/random-kernel.ts';
import { DTYPES, type DType, isFloat, storageOf } from '../core/dtype.ts';
import { binaryFn } from './arithmetic.ts';
import { evalKernel } from './eval.ts';
import { binary, children, constant, load } from './expr.ts';
import type { Expr, Kernel, Stmt } from './ir.ts';
import { COMMON_OPS, legalizeKernel } from './legalize.ts';
import { verifyKernel } from './verify.ts';

function expressions(body: readonly Stmt[]): Expr[] {
  return body.flatMap((stmt) => {
    if (stmt.kind === 'for' || stmt.kind === 'scan') return expressions(stmt.body);
    if (stmt.kind === 'if') return [stmt.cond, ...expressions(stmt.body)];
    return stmt.kind === 'store' ? [stmt.index, stmt.value] : [stmt.value];
  });
}

test('what is left of a random kernel is legal and valid', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      for (const kernel of [randomKernel(seed), randomContract(seed)]) {
        const legal = legalizeKernel(kernel, COMMON_OPS);
        verifyKernel(legal);
        const seen = new Set<Expr>();
        const check = (e: Expr): void => {
          if (seen.has(e)) return;
          seen.add(e);
          if (e.kind === 'unary') expect(COMMON_OPS.unary).toContain(e.op);
          if (e.kind === 'binary') expect(COMMON_OPS.binary).toContain(e.op);
          children(e).forEach(check);
        };
        expressions(legal.body).forEach(check);
      }
    }),
    { numRuns: 300 },
  );
});

const INTEGERS = (Object.keys(DTYPES) as DType[]).filter((d) => !isFloat(d) && d !== 'bool' && storageOf(d) === d);

test.each(INTEGERS.flatMap((dtype) => (['pow', 'floordiv'] as const).map((op) => [op, dtype] as const)))(
  '%s on %s is exact, constants included',
  (op, dtype) => {
    const values = [
      DTYPES[dtype].min,
      DTYPES[dtype].max,
      ...[-7, -2, -1, 0, 1, 2, 3, 5, 31].map((v) => constant(dtype, v)),
    ]
      .map((v) => (typeof v === 'object' && v.kind === 'const' ? v.value : (v as number | bigint)))
      .filter((v) => v >= DTYPES[dtype].min);
    const fn = binaryFn(op, dtype);
    const x = load('x', dtype, constant('i32', 0));
    for (const a of values)
      for (const b of values)
        for (const second of [load('x', dtype, constant('i32', 1)), constant(dtype, b)]) {
          const kernel: Kernel = {
            name: 'k',
            form: { kind: 'map' },
            buffers: [
              { name: 'x', dtype, elements: 2, role: 'in' },
              { name: 'y', dtype, elements: 1, role: 'out' },
            ],
            axes: [],
            body: [{ kind: 'store', buffer: 'y', index: constant('i32', 0), value: binary(op, x, second) }],
          };
          const buffers = randomBuffers(kernel, 1);
          buffers.get('x')?.set([a, b] as never);
          evalKernel(legalizeKernel(kernel, COMMON_OPS), buffers);
          expect(buffers.get('y')?.[0], `${a} ${op} ${b}`).toBe(fn?.(a, b));
        }
  },
);
