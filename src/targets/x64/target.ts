/**
 * Target x64: the CPU templates over the x86-64 assembler. An engine for it holds no code: machine code is made when it is opened.
 */
import type { DType } from '../../core/dtype.ts';
import { packWeight } from '../cpu/pack-weight.ts';
import { CPU_TEMPLATES } from '../cpu/templates.ts';
import type { Target } from '../target.ts';
import { x64Device } from './device.ts';
import { x64Features } from './machine.ts';

/** f16 and bf16 are stored, not computed in; u32 and u64 have no operators that need them. */
const COMPUTES: ReadonlySet<DType> = new Set<DType>(['f32', 'f64', 'i32', 'i64', 'i16', 'u16', 'i8', 'u8', 'bool']);

export const x64Target: Target = {
  name: 'x64',
  device: x64Device,
  computes: COMPUTES,
  takesSizes: true,
  inPlace: true,
  precisions: new Set(['fp32', 'int8']),
  templates: CPU_TEMPLATES,
  pack: (data, kernel, _, packing) => packWeight(data, kernel, packing),
  features: x64Features,
};
