/**
 * What the documents say can be done: their example programs run, the commands they show exist with every option they name, and
 * their links lead somewhere.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { hotrod, ROOT, temporaryFolder } from './cli-harness.ts';

const DOCUMENTS = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(ROOT, 'docs')).map((file) => `docs/${file}`),
];
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, code]) => code);

test('the README’s program runs as it stands', () => {
  const [program] = blocks(read('README.md'), 'ts');
  expect(program.trim().split('\n').length).toBeLessThanOrEqual(16);
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules/hotrod'));
  copyFileSync(join(ROOT, 'node_modules/detypify-service/train/model.onnx'), join(folder, 'model.onnx'));
  writeFileSync(join(folder, 'program.mjs'), program);
  const { status, stdout, stderr } = spawnSync(process.execPath, ['program.mjs'], { cwd: folder, encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  // The scores of all 411 symbols.
  expect(stdout).toMatch(/Float32Array\(411\)/);
  expect(existsSync(join(folder, 'model.engine'))).toBe(true);
});

test('every command in the documents exists, with the options that are named', () => {
  const help = new Map<string, string>();
  const wrong: string[] = [];
  for (const file of DOCUMENTS) {
    const lines = blocks(read(file), 'sh').flatMap((block) => block.split('\n'));
    for (const line of lines) {
      const [, command, rest] = /^npx hotrod (\w+)(.*?)(?:\s#.*)?$/.exec(line) ?? [];
      if (command === undefined) continue;
      if (!help.has(command)) help.set(command, hotrod([command, '--help']).stdout);
      if (!help.get(command)?.startsWith(`Usage: hotrod ${command} `))
        wrong.push(`${file}: there is no command ${command}`);
      for (const [, option] of rest.matchAll(/\s(--?[a-z][\w-]*)/g)) {
        if (!new RegExp(`(^|[\\s,])${option}(?![\\w-])`, 'm').test(help.get(command) as string))
          wrong.push(`${file}: ${command} has no option ${option}`);
      }
    }
  }
  expect(help.size).toBeGreaterThan(6);
  expect(wrong).toEqual([]);
});

test('options in the table of trtexec’s flags exist', () => {
  const table = read('docs/coming-from-tensorrt.md').split('## trtexec')[1].split('## Words')[0];
  const named = [...table.matchAll(/^\|[^|]*\|([^|]*)\|/gm)].flatMap(([, ours]) =>
    [...ours.matchAll(/(?<![\w-])(--[a-z][\w-]*)/g)].map(([, option]) => option),
  );
  const help = ['build', 'bench', 'run'].map((command) => hotrod([command, '--help']).stdout).join();
  expect(named.length).toBeGreaterThan(15);
  expect([...new Set(named)].filter((option) => !help.includes(`${option} `))).toEqual([]);
});

test('names of the API in the tables are exported', () => {
  const api = read('docs/api.md');
  for (const file of ['docs/coming-from-tensorrt.md', 'docs/coming-from-onnxruntime.md']) {
    const ours = [...read(file).matchAll(/^\|[^|]*\|([^|]*)\|/gm)].flatMap(([, cell]) =>
      [...cell.matchAll(/`(\w+)\(/g)].map(([, name]) => name),
    );
    expect(ours.length).toBeGreaterThan(4);
    for (const name of ours) expect(api, `${name} of ${file}`).toMatch(new RegExp(`### ${name}\\n|\\b${name}\\(`));
  }
});

test('links lead to files that are there', () => {
  const broken = DOCUMENTS.flatMap((file) =>
    [...read(file).matchAll(/\]\((?!https?:|#)([^)#]+)/g)].flatMap(([, to]) =>
      existsSync(join(ROOT, dirname(file), to)) ? [] : [`${file}: ${to}`],
    ),
  );
  expect(broken).toEqual([]);
});
