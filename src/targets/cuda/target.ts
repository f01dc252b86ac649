/**
 * Target cuda: PTX that the NVIDIA driver compiles. An engine for it holds no code; PTX is made when it is opened, for the GPU there.
 */
import type { DType } from '../../core/dtype.ts';
import { ModelError } from '../../core/errors.ts';
import type { Precision } from '../../engine/engine.ts';
import type { Target } from '../target.ts';
import { compileEngine, cudaDevice } from './device.ts';
import { packRows } from './gemm-packing.ts';
import { chipFeatures, cudaChip } from './machine.ts';
import type { Chip } from './program.ts';
import { CUDA_TEMPLATES } from './templates.ts';

/** u32 and u64 have no operators that need them. */
const COMPUTES: ReadonlySet<DType> = new Set<DType>([
  'f32',
  'f16',
  'bf16',
  'f64',
  'i32',
  'i64',
  'i16',
  'u16',
  'i8',
  'u8',
  'bool',
]);

/** The least architecture with a template for them. */
const TENSOR_CORES = 'sm_80';
/** Elements of a chunk that tensor cores' templates copy; ordinary cores take any. */
const CHANNEL_RUNS: { readonly [P in Precision]?: number } = { auto: 8, fp16: 8, bf16: 8, tf32: 4 };

const target = (features: () => readonly string[]): Target => ({
  name: 'cuda',
  device: cudaDevice,
  computes: COMPUTES,
  precisions: new Set(['fp32', 'tf32', 'fp16', 'bf16']),
  widensBytes: true,
  takesSizes: true,
  channelRun: (precision) => (features().includes(TENSOR_CORES) ? CHANNEL_RUNS[precision] : undefined),
  sideBySide: true,
  templates: CUDA_TEMPLATES,
  pack: (data, _kernel, _buffer, packing) => packRows(data, packing),
  features,
  forArchitecture: (name) => {
    const chip = CHIPS.find(({ computeCapability }) => `sm_${computeCapability}` === name);
    if (chip) return target(() => chipFeatures(chip));
    const known = CHIPS.map(({ computeCapability }) => `sm_${computeCapability}`);
    throw new ModelError('option-invalid', `there is no architecture ${name} for target cuda`, {
      hint: `known: ${known.join(', ')}`,
    });
  },
});

const chip = (computeCapability: number, multiprocessors: number, sharedBytesPerBlock: number): Chip => ({
  computeCapability,
  multiprocessors,
  sharedBytesPerBlock,
});

/** A common chip of each architecture, for engines that are built where no GPU is: T4, A100, A10, Orin, L4, H100, B200, B300, RTX 5090. */
const CHIPS: readonly Chip[] = [
  chip(75, 40, 65_536),
  chip(80, 108, 166_912),
  chip(86, 72, 101_376),
  chip(87, 16, 166_912),
  chip(89, 58, 101_376),
  chip(90, 132, 232_448),
  chip(100, 148, 232_448),
  chip(103, 160, 232_448),
  chip(120, 170, 101_376),
];

export const cudaTarget: Target = {
  ...target(() => cudaChip()?.features ?? []),
  machineName: () => cudaChip()?.device.name ?? 'no GPU',
  compile: compileEngine,
};
