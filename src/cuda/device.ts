/**
 * The GPUs of this machine and what they can do.
 */
import type { Driver } from './driver.ts';

/** Attributes by cuda.h's CUdevice_attribute, under the names used here. */
const ATTRIBUTES = {
  maxThreadsPerBlock: 1,
  sharedBytesPerBlock: 8,
  warpSize: 10,
  registersPerBlock: 12,
  clockKHz: 13,
  multiprocessors: 16,
  memoryClockKHz: 36,
  memoryBusBits: 37,
  l2Bytes: 38,
  maxThreadsPerMultiprocessor: 39,
  copyEngines: 40,
  computeMajor: 75,
  computeMinor: 76,
  sharedBytesPerMultiprocessor: 81,
  registersPerMultiprocessor: 82,
  /** 1 where kernels reach pinned memory of the host by its own address. */
  hostAddresses: 91,
  cooperativeLaunch: 95,
  /** The most that a kernel may ask for with `setSharedBytes`. */
  sharedBytesPerBlockOptIn: 97,
} as const;
export type DeviceAttributes = { readonly [A in keyof typeof ATTRIBUTES]: number };

export interface CudaDevice {
  readonly ordinal: number;
  /** The driver's number for it. */
  readonly handle: number;
  readonly name: string;
  /** As nvidia-smi prints it: GPU-xxxxxxxx-…. */
  readonly uuid: string;
  /** 90 is sm_90. */
  readonly computeCapability: number;
  readonly totalBytes: number;
  readonly attributes: DeviceAttributes;
}

/** The GPUs that the process may use, in the driver's order (CUDA_VISIBLE_DEVICES chooses). Throws ModelError `driver-error`. */
export function listDevices(driver: Driver): readonly CudaDevice[] {
  const count = driver.int('cuDeviceGetCount', 'count the GPUs');
  return Array.from({ length: count }, (_, ordinal) => describeDevice(driver, ordinal));
}

function describeDevice(driver: Driver, ordinal: number): CudaDevice {
  const handle = driver.int('cuDeviceGet', `find GPU ${ordinal}`, ordinal);
  const nameBytes = new Uint8Array(256);
  driver.call('cuDeviceGetName', `read the name of GPU ${ordinal}`, nameBytes, nameBytes.length, handle);
  const uuid = new Uint8Array(16);
  driver.call('cuDeviceGetUuid_v2', `read the identity of GPU ${ordinal}`, uuid, handle);
  const attribute = (name: string, number: number): number =>
    driver.int('cuDeviceGetAttribute', `read ${name} of GPU ${ordinal}`, number, handle);
  const attributes = Object.fromEntries(
    Object.entries(ATTRIBUTES).map(([name, number]) => [name, attribute(name, number)]),
  ) as DeviceAttributes;
  return {
    ordinal,
    handle,
    name: new TextDecoder().decode(nameBytes.subarray(0, nameBytes.indexOf(0))),
    uuid: `GPU-${printUuid(uuid)}`,
    computeCapability: 10 * attributes.computeMajor + attributes.computeMinor,
    totalBytes: driver.handle('cuDeviceTotalMem_v2', `read the memory size of GPU ${ordinal}`, handle),
    attributes,
  };
}

const printUuid = (bytes: Uint8Array): string =>
  [...bytes]
    .map((b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
