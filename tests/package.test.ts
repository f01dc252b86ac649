/** The package as npm makes it, installed into an empty folder: the same commands, the same imports, nothing run at install. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VERSION } from '../src/core/version.ts';
import { ROOT, temporaryFolder } from './cli-harness.ts';

const npm = (args: readonly string[], cwd: string) => spawnSync('npm', args, { cwd, encoding: 'utf8' });
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
};

test('the version in the code is the package’s', () => {
  expect(VERSION).toBe(manifest.version);
});

test('installing runs nothing', () => {
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare'])
    expect(manifest.scripts).not.toHaveProperty(script);
});

test('the lock file has the optional packages of every platform, or npm ci refuses it', () => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, { readonly optionalDependencies?: Readonly<Record<string, string>> }>>;
  };
  const locked = new Set(Object.keys(packages).map((path) => path.split('node_modules/').at(-1)));
  const wanted = Object.values(packages).flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies));
  expect(wanted.filter((name) => !locked.has(name))).toEqual([]);
});

test('what is bundled is taken by the oldest Node: no using declarations, which tsc would have written in other words', () => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  const wrong = sources
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .filter((file) => /^\s*(await\s+)?using\s+\w+\s*=/m.test(readFileSync(join(ROOT, 'src', file), 'utf8')));
  expect(wrong).toEqual([]);
});

test('packed and installed it works as in the checkout', (context) => {
  const folder = temporaryFolder();
  const packed = npm(['pack', '--ignore-scripts', '--pack-destination', folder], ROOT);
  expect(packed.status, packed.stderr).toBe(0);
  const [tarball] = readdirSync(folder);
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }');
  const installed = npm(
    ['install', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund', `./${tarball}`],
    folder,
  );
  if (/ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|network/.test(installed.stderr)) {
    context.skip('the registry cannot be reached from here');
  }
  expect(installed.status, installed.stderr).toBe(0);

  const files = readdirSync(join(folder, 'node_modules/hotrod'), { recursive: true }).map(String);
  expect(files.filter((file) => file.includes('.test.'))).toEqual([]);
  expect(files).toEqual(
    expect.arrayContaining([
      'LICENSE',
      'README.md',
      'package.json',
      'dist/index.js',
      'dist/index.d.ts',
      'assets/infinity.png',
    ]),
  );

  const devices = spawnSync('npx', ['--no-install', 'hotrod', 'devices', '--json'], { cwd: folder, encoding: 'utf8' });
  expect(devices.status, devices.stderr).toBe(0);
  expect(JSON.parse(devices.stdout)).toHaveProperty('devices');

  // A network that some folder above happens to have is found too, as Node finds packages.
  const network = spawnSync(process.execPath, ['-e', "require.resolve('detypify-service/package.json')"], {
    cwd: folder,
  });
  const demo = spawnSync('npx', ['--no-install', 'hotrod', 'demo', '--duration', '0'], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect(demo.status, demo.stderr).toBe(network.status === 0 ? 0 : 2);
  if (network.status !== 0) expect(demo.stderr).toContain('npm i detypify-service');

  const script = `const all = { ...(await import('hotrod/runtime')), ...(await import('hotrod')) };
    console.log(['build', 'load', 'serializeEngine'].map((name) => typeof all[name]).join());`;
  const imported = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect(imported.stdout.trim(), imported.stderr).toBe('function,function,function');
});
