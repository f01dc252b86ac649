/**
 * The functions of the CUDA driver that are used, a row each: name as the library exports it (with its _v2), and its arguments.
 * All give a CUresult. Signatures are those of cuda.h; `optional` ones came with a driver newer than the oldest that will do (11.4).
 */
import type { NativeType } from '../host/ffi.ts';

interface Row {
  readonly args: readonly NativeType[];
  readonly optional?: true;
}

const row = (...args: NativeType[]): Row => ({ args });
const optional = (...args: NativeType[]): Row => ({ args, optional: true });

/** `void *`: where the host keeps something, a typed array or an address. `uintptr`: a handle, a device address, a size. */
export const CUDA_FUNCTIONS = {
  cuInit: row('uint'),
  cuDriverGetVersion: row('void *'),
  cuGetErrorName: row('int', 'void *'),
  cuGetErrorString: row('int', 'void *'),

  cuDeviceGetCount: row('void *'),
  cuDeviceGet: row('void *', 'int'),
  cuDeviceGetName: row('void *', 'int', 'int'),
  cuDeviceGetUuid_v2: row('void *', 'int'),
  cuDeviceGetAttribute: row('void *', 'int', 'int'),
  cuDeviceTotalMem_v2: row('void *', 'int'),
  cuDevicePrimaryCtxRetain: row('void *', 'int'),
  cuDevicePrimaryCtxRelease_v2: row('int'),
  cuCtxSetCurrent: row('uintptr'),
  cuCtxSynchronize: row(),
  cuMemGetInfo_v2: row('void *', 'void *'),

  cuMemAlloc_v2: row('void *', 'uintptr'),
  cuMemFree_v2: row('uintptr'),
  cuMemHostRegister_v2: row('void *', 'uintptr', 'uint'),
  cuMemHostUnregister: row('void *'),
  cuMemcpyAsync: row('uintptr', 'uintptr', 'uintptr', 'uintptr'),
  cuMemcpyHtoDAsync_v2: row('uintptr', 'void *', 'uintptr', 'uintptr'),
  cuMemcpyDtoHAsync_v2: row('void *', 'uintptr', 'uintptr', 'uintptr'),
  cuMemsetD8Async: row('uintptr', 'uint', 'uintptr', 'uintptr'),

  cuStreamCreate: row('void *', 'uint'),
  cuStreamDestroy_v2: row('uintptr'),
  cuStreamSynchronize: row('uintptr'),
  cuStreamQuery: row('uintptr'),
  cuStreamWaitEvent: row('uintptr', 'uintptr', 'uint'),
  cuStreamBeginCapture_v2: row('uintptr', 'uint'),
  cuStreamEndCapture: row('uintptr', 'void *'),
  cuEventCreate: row('void *', 'uint'),
  cuEventDestroy_v2: row('uintptr'),
  cuEventRecord: row('uintptr', 'uintptr'),
  cuEventRecordWithFlags: row('uintptr', 'uintptr', 'uint'),
  cuEventSynchronize: row('uintptr'),
  cuEventQuery: row('uintptr'),
  cuEventElapsedTime: row('void *', 'uintptr', 'uintptr'),

  cuModuleLoadDataEx: row('void *', 'void *', 'uint', 'void *', 'void *'),
  cuModuleUnload: row('uintptr'),
  cuModuleGetFunction: row('void *', 'uintptr', 'void *'),
  cuModuleGetGlobal_v2: row('void *', 'void *', 'uintptr', 'void *'),
  cuFuncGetAttribute: row('void *', 'int', 'uintptr'),
  cuFuncSetAttribute: row('uintptr', 'int', 'int'),
  cuOccupancyMaxActiveBlocksPerMultiprocessor: row('void *', 'uintptr', 'int', 'uintptr'),
  cuLaunchKernel: row(
    'uintptr', // the function
    ...(['uint', 'uint', 'uint'] as const), // blocks
    ...(['uint', 'uint', 'uint'] as const), // threads of a block
    'uint', // dynamic shared memory, bytes
    'uintptr', // the stream
    'void *', // addresses of the arguments
    'void *', // extra
  ),
  cuLaunchKernelEx: optional('void *', 'uintptr', 'void *', 'void *'),

  cuGraphInstantiateWithFlags: row('void *', 'uintptr', 'uintptr'),
  cuGraphGetNodes: row('uintptr', 'void *', 'void *'),
  cuGraphUpload: row('uintptr', 'uintptr'),
  cuGraphLaunch: row('uintptr', 'uintptr'),
  cuGraphExecDestroy: row('uintptr'),
  cuGraphDestroy: row('uintptr'),

  cuLinkCreate_v2: row('uint', 'void *', 'void *', 'void *'),
  cuLinkAddData_v2: row('uintptr', 'int', 'void *', 'uintptr', 'void *', 'uint', 'void *', 'void *'),
  cuLinkComplete: row('uintptr', 'void *', 'void *'),
  cuLinkDestroy: row('uintptr'),
} as const satisfies Readonly<Record<string, Row>>;

export type CudaFunctionName = keyof typeof CUDA_FUNCTIONS;

export const isOptional = (name: CudaFunctionName): boolean => (CUDA_FUNCTIONS[name] as Row).optional === true;
