/**
 * Every operator's cases on target cuda. Where there is a GPU they run on it; everywhere they are built for one and their PTX is
 * interpreted, which also finds accesses out of bounds, misaligned vectors, races and missing barriers.
 */
import { it } from 'vitest';
import { cudaDevice } from '../src/targets/cuda/device.ts';
import { type Gap, opSuite } from './op-suite.ts';
import { runInterpreted } from './ptx/run-engine.ts';
import { CHIPS } from './ptx/run-kernel.ts';
import { runOnGpu } from './ptx/run-on-gpu.ts';

/** Operators with a function that the GPU has no float64 instruction for. */
const FUNCTIONS =
  'ReduceLogSum ReduceLogSumExp Elu Selu Softplus Mish Gelu Swish Pow Softmax LogSoftmax Sigmoid Tanh Erf Exp Log ' +
  'Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh';

const F64_FUNCTIONS: Gap = {
  ops: FUNCTIONS.split(' '),
  dtypes: ['f64'],
  how: 'differs',
  within: 1e-6,
  why: 'functions of float64 are computed with the precision of float32 (loop/legalize.ts)',
};

const SUM_ORDER: Gap = {
  ops: ['LayerNormalization'],
  dtypes: ['f64'],
  names: /large mean/,
  how: 'differs',
  within: 1e-8,
  why: 'a mean is summed by several threads, and what is left of its last place after the subtraction is divided by a small deviation',
};
const GAPS = [F64_FUNCTIONS, SUM_ORDER];

opSuite({ name: 'cuda, interpreted', run: runInterpreted(CHIPS[2]), gaps: GAPS });

const { available, reason } = await cudaDevice.probe();
if (available) opSuite({ name: 'cuda', run: runOnGpu, gaps: GAPS });
else it.skip(`cuda: ${reason}`);
