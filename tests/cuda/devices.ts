/** Devices of target cuda for tests of engines: on drivers that interpret PTX, and the GPU here where there is one. */
import type { Driver } from '../../src/cuda/driver.ts';
import type { Device } from '../../src/engine/device.ts';
import { cudaDevice } from '../../src/targets/cuda/device.ts';
import { fakeDevice } from './fake-device.ts';
import { GPU, gpuHere, INTERPRETS } from './gpu-here.ts';

export interface CudaDeviceOfTests {
  readonly name: string;
  /** What to build for. */
  readonly gpuArch: string;
  /** A device of its own for each test. `live` counts what was made in its driver and not freed, where that is known. */
  make(): { readonly device: Device; readonly driver: Driver; live(): object };
}

const interpreted = (computeCapability: number): CudaDeviceOfTests => ({
  name: `sm_${computeCapability}`,
  gpuArch: `sm_${computeCapability}`,
  make: () => {
    const { fake, device, driver } = fakeDevice(computeCapability);
    return { device, driver, live: () => fake.live() };
  },
});

const here = (): readonly CudaDeviceOfTests[] => {
  if (!GPU) return [];
  gpuHere();
  const { chip, driver, device } = GPU;
  const make = () => ({ device: cudaDevice, driver, live: () => ({}) });
  return [{ name: `the ${device.name} here`, gpuArch: `sm_${chip.computeCapability}`, make }];
};

/** Those of the architectures, interpreted, and the GPU here. */
export const cudaDevices = (...capabilities: readonly number[]): readonly CudaDeviceOfTests[] => [
  ...(INTERPRETS ? capabilities.map(interpreted) : []),
  ...here(),
];
