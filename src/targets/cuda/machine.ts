/**
 * The GPU that this process runs on: the first that the driver shows (CUDA_VISIBLE_DEVICES chooses), if Hotrod has code for it.
 */
import { type CudaDevice, listDevices } from '../../cuda/device.ts';
import { type Driver, findDriver } from '../../cuda/driver.ts';
import type { Chip } from './program.ts';

/** Turing: the oldest with the tensor-core instructions that templates use. */
const LEAST_CAPABILITY = 75;
/** Compute capabilities whose instructions a chip of a later one has too, and those that a program may be tuned for. */
const CAPABILITIES = [75, 80, 86, 87, 89, 90, 100, 103, 120];

export interface CudaMachine {
  readonly driver: Driver;
  readonly device: CudaDevice;
  readonly chip: Chip;
  readonly features: readonly string[];
}

let finding: Promise<CudaMachine | string> | undefined;
let found: CudaMachine | undefined;

/** This machine, or the reason why it cannot run CUDA code. Asked once. */
export function cudaMachine(): Promise<CudaMachine | string> {
  finding ??= findDriver().then((driver) => {
    const machine = typeof driver === 'string' ? driver : machineOf(driver);
    if (typeof machine !== 'string') found = machine;
    return machine;
  });
  return finding;
}

/** The chip; undefined until the machine was asked for, and where there is none. */
export const cudaChip = (): CudaMachine | undefined => found;

/** The first GPU of a driver, or why it is of no use. */
export function machineOf(driver: Driver): CudaMachine | string {
  try {
    const [device] = listDevices(driver);
    if (!device) return 'the NVIDIA driver shows no GPU to this process';
    const { computeCapability, name, attributes } = device;
    if (computeCapability < LEAST_CAPABILITY)
      return `${name} is of compute capability ${computeCapability / 10}; ${LEAST_CAPABILITY / 10} is the least`;
    const { multiprocessors, sharedBytesPerBlockOptIn } = attributes;
    const chip: Chip = { computeCapability, multiprocessors, sharedBytesPerBlock: sharedBytesPerBlockOptIn };
    return { driver, device, chip, features: chipFeatures(chip) };
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}

/**
 * What tactics may rely on: the architectures whose instructions the chip has, those that only the very chip has (`sm_90a`), and how
 * large it is.
 */
export function chipFeatures({ computeCapability, multiprocessors }: Chip): readonly string[] {
  const generations = CAPABILITIES.filter((c) => c <= computeCapability).map((c) => `sm_${c}`);
  const exact = computeCapability >= 90 ? [`sm_${computeCapability}a`] : [];
  return [...generations, ...exact, `multiprocessors_${multiprocessors}`];
}
