/**
 * What the driver answered, as an error that says what was being done.
 */
import { type ErrorCode, ModelError } from '../core/errors.ts';

/** The CUresults that the code tells apart; cuda.h has the full list, and the driver names them all. */
export const CUDA_SUCCESS = 0;
export const CUDA_ERROR_NOT_READY = 600;

/** After one of these the process can do nothing more on the GPU: the device was lost, or a kernel faulted. Other processes go on. */
const STICKY: ReadonlySet<number> = new Set([
  46, // DEVICE_UNAVAILABLE
  214, // ECC_UNCORRECTABLE
  220, // NVLINK_UNCORRECTABLE
  700, // ILLEGAL_ADDRESS
  702, // LAUNCH_TIMEOUT
  709, // CONTEXT_IS_DESTROYED
  710, // ASSERT
  714, // HARDWARE_STACK_ERROR
  715, // ILLEGAL_INSTRUCTION
  716, // MISALIGNED_ADDRESS
  717, // INVALID_ADDRESS_SPACE
  718, // INVALID_PC
  719, // LAUNCH_FAILED
]);

interface Answer {
  readonly code: ErrorCode;
  readonly hint: string;
}
const LOST: Answer = {
  code: 'device-lost',
  hint: 'restart the process: this one cannot use the GPU any more. compute-sanitizer finds the kernel at fault',
};
const NO_CODE: Answer = { code: 'device-code', hint: 'the text or binary is not code for this GPU and driver' };

const ANSWERS: ReadonlyMap<number, Answer> = new Map<number, Answer>([
  [2, { code: 'out-of-memory', hint: 'free memory of the GPU, use smaller shapes or fewer contexts' }],
  [200, NO_CODE], // INVALID_IMAGE
  [209, NO_CODE], // NO_BINARY_FOR_GPU
  [218, NO_CODE], // INVALID_PTX
  [221, NO_CODE], // JIT_COMPILER_NOT_FOUND
  [222, { code: 'device-code', hint: 'a newer NVIDIA driver is needed for this version of PTX' }], // UNSUPPORTED_PTX_VERSION
]);
const OTHER: Answer = { code: 'driver-error', hint: 'nvidia-smi shows whether the GPU is well' };

export const isSticky = (status: number): boolean => STICKY.has(status);

/** `text` is the driver's name and description of the status, `details` e.g. the log of the assembler. */
export function cudaError(status: number, text: string, what: string, details: readonly string[] = []): ModelError {
  const { code, hint } = isSticky(status) ? LOST : (ANSWERS.get(status) ?? OTHER);
  const log = details.length > 0 ? `\n${details.join('\n')}` : '';
  return new ModelError(code, `CUDA could not ${what}: ${text}${log}`, { hint, details });
}
