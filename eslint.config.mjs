import js from '@eslint/js';
import jupyter from '@jupyter/eslint-plugin';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  { ignores: ['labextension/dist/', 'labextension/lib/', 'labextension/src/messages.ts'] },
  js.configs.recommended,
  {
    files: ['labextension/src/**/*.{ts,tsx}', 'tests/labextension/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    plugins: { jupyter: { rules: jupyter.rules } },
    languageOptions: {
      parserOptions: { project: ['tsconfig.json', 'tests/labextension/tsconfig.json'] }
    },
    rules: {
      ...jupyter.configs.recommended.rules,
      'no-console': 'error',
      // JupyterLab's idiom: options, constants and helpers of a class live in a namespace.
      '@typescript-eslint/no-namespace': 'off',
      // Signals take the receiver beside the method: connect(this.method, this).
      '@typescript-eslint/unbound-method': 'off'
    }
  }
);
