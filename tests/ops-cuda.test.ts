/**
 * Every operator's cases on target cuda. Where there is a GPU they run on it; everywhere they are built for one and their PTX is
 * interpreted, which also finds accesses out of bounds, misaligned vectors, races and missing barriers.
 */
import { it } from 'vitest';
import { GPU, INTERPRETS, WITHOUT_GPU } from './cuda/gpu-here.ts';
import { type Gap, opSuite } from './op-suite.ts';
import { runInterpreted } from './ptx/run-engine.ts';
import { CHIPS } from './ptx/run-kernel.ts';
import { runOnGpu } from './ptx/run-on-gpu.ts';

const SUM_ORDER: Gap = {
  ops: ['LayerNormalization'],
  dtypes: ['f64'],
  names: /large mean/,
  how: 'differs',
  within: 1e-8,
  why: 'a mean is summed by several threads, and what is left of its last place after the subtraction is divided by a small deviation',
};
const GAPS = [SUM_ORDER];

if (INTERPRETS) opSuite({ name: 'cuda, interpreted', run: runInterpreted(CHIPS[2]), gaps: GAPS });
if (GPU) opSuite({ name: 'cuda', run: runOnGpu, gaps: GAPS });
else it.skip(`cuda: ${WITHOUT_GPU}`);
