/**
 * Every operator's cases on every target, built with the verifier between passes. A target joins by a line.
 */
import { it } from 'vitest';
import { x64Device } from '../src/targets/x64/device.ts';
import { runOnTarget } from './engine-runner.ts';
import { opSuite } from './op-suite.ts';

opSuite({ name: 'reference', run: runOnTarget('reference'), gaps: [] });
opSuite({ name: 'wasm', run: runOnTarget('wasm'), gaps: [] });

const { available, reason } = await x64Device.probe();
if (available) opSuite({ name: 'x64', run: runOnTarget('x64'), gaps: [] });
else it.skip(`x64: ${reason}`);
