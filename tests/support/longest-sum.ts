/** How many terms the longest sum of a kernel has: what bounds the error of another order. */
import type { Kernel } from '../../src/loop/ir.ts';
import { eachStmt } from '../../src/targets/cpu/walk.ts';

export function longestSum(kernel: Kernel): number {
  let most = 64;
  eachStmt(kernel.body, (s) => {
    if (s.kind === 'reduce')
      most = Math.max(
        most,
        s.axes.reduce((n, a) => n * a.extent, 1),
      );
    else if (s.kind === 'scan') most = Math.max(most, s.axis.extent);
  });
  return most;
}
