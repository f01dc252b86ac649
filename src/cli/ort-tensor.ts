/** A tensor as onnxruntime-node takes it. */
import type { Tensor as OrtTensor } from 'onnxruntime-node';
import type { Tensor } from '../core/tensor.ts';

type OrtConstructor = new (type: 'float32', data: Float32Array, dims: readonly number[]) => OrtTensor;

/**
 * The tensor under the name that onnxruntime has for its type. Where the host has Float16Array (Node 24), onnxruntime turns the bits of
 * float16 into one, which its native part (1.30) then takes for an empty array; so the bits are put back in its place.
 */
export function ortTensor(OrtTensorClass: OrtConstructor, type: string, { dtype, shape, data }: Tensor): OrtTensor {
  const made = new OrtTensorClass(type as 'float32', data as Float32Array, [...shape]);
  if (dtype === 'f16' && made.data.constructor !== data.constructor)
    Object.defineProperty(made, 'cpuData', { value: data });
  return made;
}
