/**
 * Every operator's cases on every target, built with the verifier between passes. A target joins by a line.
 */
import { it } from 'vitest';
import { x64Device } from '../src/targets/x64/device.ts';
import { runOnTarget } from './engine-runner.ts';
import { type Gap, opSuite } from './op-suite.ts';

/** Operators with a function that CPUs have no instruction for. */
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

opSuite({ name: 'reference', run: runOnTarget('reference'), gaps: [] });
opSuite({ name: 'wasm', run: runOnTarget('wasm'), gaps: [F64_FUNCTIONS] });

const { available, reason } = await x64Device.probe();
if (available) opSuite({ name: 'x64', run: runOnTarget('x64'), gaps: [F64_FUNCTIONS] });
else it.skip(`x64: ${reason}`);
