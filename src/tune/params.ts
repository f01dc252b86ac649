/** Parameters of a tactic as text: `rows=3,width=16`, keys sorted. */
import type { Tactic } from '../engine/engine.ts';

export const printParams = (params: Tactic['params']): string =>
  Object.keys(params)
    .sort()
    .map((k) => `${k}=${params[k]}`)
    .join();
