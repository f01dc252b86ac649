/** The device of target cuda on a driver that interprets PTX. */
import { Driver } from '../../src/cuda/driver.ts';
import type { Device } from '../../src/engine/device.ts';
import type { Engine } from '../../src/engine/engine.ts';
import { openProgram, programOf } from '../../src/targets/cuda/device.ts';
import { type CudaMachine, machineOf } from '../../src/targets/cuda/machine.ts';
import { FakeDriver } from './fake-driver.ts';

export interface FakeGpu {
  readonly fake: FakeDriver;
  readonly driver: Driver;
  readonly device: Device;
}
export function fakeDevice(computeCapability: number): FakeGpu {
  const fake = new FakeDriver({ runsPtx: true, computeCapability, hostAddresses: true });
  const driver = new Driver(fake.library);
  const machine = machineOf(driver) as CudaMachine;
  const open: Device['open'] = (engine: Engine, options) =>
    openProgram(engine, programOf(engine, machine), options, machine, undefined);
  const probe: Device['probe'] = async () => ({ target: 'cuda', name: 'fake', available: true, features: [] });
  return { fake, driver, device: { target: 'cuda', probe, open } };
}
