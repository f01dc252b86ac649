/** The cache of machine code as a user meets it: processes beside each other and after each other, over one folder of their own. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { graphBuilder } from '../src/graph/build.ts';
import { unseal } from '../src/host/sealed.ts';
import { writeOnnx } from '../src/onnx/write.ts';
import { OPS } from '../src/ops/all.ts';
import { x64Machine } from '../src/targets/x64/machine.ts';
import { CLI, hotrod, temporaryFolder } from './cli-harness.ts';

const found = await x64Machine();

/** An engine file, its outputs when it is run in a process of its own, and the names in its cache. */
function setUp() {
  const folder = temporaryFolder();
  const home = join(folder, 'cache');
  const b = graphBuilder('net', OPS);
  const x = b.input('x', 'f32', [5, 33]);
  b.output(b.node('Softmax', [b.node('Mul', [x, x])[0]])[0]);
  const model = join(folder, 'net.onnx');
  writeFileSync(model, writeOnnx(b.finish(), { ops: OPS }));
  const engine = join(folder, 'net.engine');
  const run = ['run', engine, '--threads', '2', '--json'];
  const env = { XDG_CACHE_HOME: home };
  const entries = join(home, 'hotrod/x64');
  return {
    build: (more: Readonly<Record<string, string>> = {}) =>
      hotrod(['build', model, '-o', engine, '--target', 'x64', '--threads', '2'], { env: { ...env, ...more } }),
    run: (more: Readonly<Record<string, string>> = {}) => hotrod(run, { env: { ...env, ...more } }),
    runBeside: () =>
      new Promise<{ status: number | null; stdout: string }>((resolve) => {
        const child = spawn(process.execPath, [CLI, ...run], { env: { ...process.env, ...env } });
        let stdout = '';
        child.stdout.on('data', (text) => {
          stdout += text;
        });
        child.on('close', (status) => resolve({ status, stdout }));
      }),
    entries: () => (existsSync(entries) ? readdirSync(entries).map((name) => join(entries, name)) : []),
  };
}
const outputsOf = ({ status, stdout }: { status: number | null; stdout: string }): unknown => {
  expect(status).toBe(0);
  return (JSON.parse(stdout) as { outputs: unknown }).outputs;
};

test('devices tells where code is kept', () => {
  const home = temporaryFolder();
  const devices = (more: Readonly<Record<string, string>>) =>
    hotrod(['devices'], { env: { XDG_CACHE_HOME: home, ...more } }).stdout;
  expect(devices({})).toContain(`is kept in ${join(home, 'hotrod')}`);
  expect(devices({ HOTROD_CACHE: 'off' })).toContain('code compiled for this machine is not kept');
});

describe.skipIf(typeof found === 'string')('processes', () => {
  test('a build leaves the one entry that loading finds', async () => {
    const net = setUp();
    expect(net.build().status).toBe(0);
    const [entry, ...others] = net.entries();
    expect(others).toEqual([]);
    const before = readFileSync(entry);
    expect(await unseal(before)).toBeDefined();
    const first = outputsOf(net.run());
    expect(net.entries()).toEqual([entry]);
    // What is found and what is made anew give the same, and are the same.
    expect(outputsOf(net.run({ HOTROD_CACHE: 'off' }))).toEqual(first);
    writeFileSync(entry, before.subarray(0, before.length - 1));
    expect(outputsOf(net.run())).toEqual(first);
    expect(readFileSync(entry)).toEqual(before);
  });

  test('HOTROD_CACHE=off leaves nothing behind', () => {
    const net = setUp();
    expect(net.build({ HOTROD_CACHE: 'off' }).status).toBe(0);
    outputsOf(net.run({ HOTROD_CACHE: 'off' }));
    expect(net.entries()).toEqual([]);
  });

  test('many that write the same entry at once leave one whole entry', async () => {
    const net = setUp();
    expect(net.build({ HOTROD_CACHE: 'off' }).status).toBe(0);
    const runs = await Promise.all(Array.from({ length: 6 }, () => net.runBeside()));
    for (const run of runs) expect(outputsOf(run)).toEqual(outputsOf(runs[0]));
    expect(net.entries()).toHaveLength(1);
    expect(await unseal(readFileSync(net.entries()[0]))).toBeDefined();
  });
});
