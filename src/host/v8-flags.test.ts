/** In processes of their own, because flags are the process's: what V8 optimises while the work runs, and after it. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { firstTimeUnoptimized } from './v8-flags.ts';

const MODULE = fileURLToPath(new URL('../../dist/host/v8-flags.js', import.meta.url));

/** Whether V8 has optimised a busy function at the end of the first piece of work, of the second, and of one outside. */
function tiers(cores: number, expected: readonly boolean[], flags: readonly string[] = []): unknown {
  if (!existsSync(MODULE)) throw new Error('the package is not built: npm run build');
  const script = `
    import { firstTimeUnoptimized } from ${JSON.stringify(MODULE)};
    // What should come is waited for; what should not is given time to.
    const busy = (isExpected) => {
      const f = new Function('n', 'let s = 0; for (let i = 0; i < n; i++) s += i % 7; return s;');
      const end = performance.now() + (isExpected ? 30_000 : 300);
      while (performance.now() < end && !%ActiveTierIsTurbofan(f)) f(1000);
      return %ActiveTierIsTurbofan(f);
    };
    const run = firstTimeUnoptimized(() => ${cores});
    const [first, second, outside] = ${JSON.stringify(expected)};
    console.log(JSON.stringify([run(() => busy(first)), run(() => busy(second)), busy(outside)]));`;
  const args = ['--allow-natives-syntax', ...flags, '--input-type=module', '-e', script];
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

test('on few cores the first time is unoptimised, and nothing after', () => {
  expect(tiers(2, [false, true, true])).toEqual([false, true, true]);
});

test('on many cores all is optimised', () => {
  expect(tiers(8, [true, true, true])).toEqual([true, true, true]);
});

test('who started the process with a choice keeps it', () => {
  expect(tiers(2, [false, false, false], ['--no-opt'])).toEqual([false, false, false]);
});

test('results and errors come through', () => {
  const run = firstTimeUnoptimized(() => 2);
  expect(() =>
    run(() => {
      throw new RangeError('x');
    }),
  ).toThrow(RangeError);
  expect(run(() => 5)).toBe(5);
});
