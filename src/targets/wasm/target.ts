/**
 * Target wasm: the CPU templates over the WebAssembly assembler, emitted in every variant that a host may take.
 */
import type { DType } from '../../core/dtype.ts';
import { wasmFeatures } from '../../host/wasm-features.ts';
import { emitKernel, grainOf } from '../cpu/emit.ts';
import { packWeight } from '../cpu/pack-weight.ts';
import { CPU_TEMPLATES } from '../cpu/templates.ts';
import type { Target } from '../target.ts';
import { VARIANTS } from './control.ts';
import { featureNames, wasmDevice } from './device.ts';
import { emitKernels, emitModule } from './program.ts';

/** f16 and bf16 are stored, not computed in; u32 and u64 have no operators that need them. */
const COMPUTES: ReadonlySet<DType> = new Set<DType>(['f32', 'f64', 'i32', 'i64', 'i16', 'u16', 'i8', 'u8', 'bool']);

export const wasmTarget: Target = {
  name: 'wasm',
  device: wasmDevice,
  computes: COMPUTES,
  takesSizes: true,
  inPlace: true,
  precisions: new Set(['fp32', 'int8']),
  templates: CPU_TEMPLATES,
  pack: (data, kernel, _, packing) => packWeight(data, kernel, packing),
  emit(program) {
    const code = new Map(
      [true, false].map((relaxed) => [relaxed, emitKernels(program, relaxed, emitKernel, grainOf)] as const),
    );
    return VARIANTS.map(({ name, relaxed, threads }) => ({
      name,
      bytes: emitModule(program, code.get(relaxed)!, threads),
    }));
  },
  features: () => featureNames(wasmFeatures()),
};
