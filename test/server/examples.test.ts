/** The examples of scale-out, against the code whose routes, ports and limits they name. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { parse, parseAllDocuments } from 'yaml'
import { resolveServeOptions } from '../../lib/server/options.js'
import { root } from '../support/golden.js'
import { prefixHeader } from './prefix-header.js'

const DEFAULTS = resolveServeOptions({})
/** Of `moepp serve` and `Server.listen`. */
const PORT = 8080

const read = (...path: string[]) => readFileSync(join(root, ...path), 'utf8')
const example = (...path: string[]) => read('examples', ...path)
const manifest = (name: string) => parse(example('kubernetes', name))
const manifests = (name: string) =>
  parseAllDocuments(example('kubernetes', name)).map(document => document.toJS())

/** The paths that an application without keys answers, read from the sources of its routes. */
const routes = ['health', 'metrics'].flatMap(name =>
  [...read('lib', 'server', 'routes', `${name}.ts`).matchAll(/app\.get\('([^']+)'/g)].map(
    ([, path]) => path,
  ),
)

/** Faults that TypeScript finds in objects that must have Kubernetes' types: wrong names, too. */
function faultsOf(objects: readonly { apiVersion: string; kind: string }[]): string[] {
  const code = objects.map(({ apiVersion, kind, ...rest }, i) => {
    const module = apiVersion.includes('/') ? apiVersion : `core/${apiVersion}`
    const value = JSON.stringify({ apiVersion, kind, ...rest })
    return `import type { ${kind} as T${i} } from 'kubernetes-types/${module}.js'
      export const o${i}: T${i} = ${value}`
  })
  const name = join(root, 'test', 'server', 'manifests.generated.ts')
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.fileExists = file => file === name || fileExists(file)
  host.getSourceFile = (file, version) =>
    file === name
      ? ts.createSourceFile(file, code.join('\n'), version)
      : getSourceFile.call(host, file, version)
  const program = ts.createProgram([name], options, host)
  return ts
    .getPreEmitDiagnostics(program)
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
}

t.test('manifests have the types of Kubernetes', async t => {
  const { resources } = manifest('kustomization.yaml') as { resources: string[] }
  const all = resources.flatMap(manifests)
  t.same(
    all.map(({ kind }) => kind),
    ['Deployment', 'Service', 'Service', 'HorizontalPodAutoscaler', 'PodDisruptionBudget'],
  )
  t.same(faultsOf(all), [])
  const [{ spec, ...deployment }] = all
  const wrong = { ...deployment, spec: { ...spec, replica: 1 } }
  t.match(
    faultsOf([wrong])[0],
    /replica.* does not\s+exist in type 'DeploymentSpec'/,
    'a wrong name is found',
  )
})

t.test('the Deployment: probes, port, drain and rights', async t => {
  const { spec } = manifest('deployment.yaml')
  const pod = spec.template.spec
  const [container] = pod.containers
  const [port] = container.ports
  const flag = (name: string) => container.args[container.args.indexOf(name) + 1]
  t.equal(port.containerPort, PORT)
  t.equal(Number(flag('--port')), PORT)
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    const { path, port: name } = container[probe].httpGet
    t.ok(routes.includes(path), `${probe} ${path}`)
    t.equal(name, port.name)
  }
  t.equal(container.readinessProbe.httpGet.path, '/ready')
  t.equal(container.livenessProbe.httpGet.path, '/health', 'a full queue is no reason to restart')
  const [program, seconds] = container.lifecycle.preStop.exec.command
  t.equal(program, 'sleep')
  const drainSeconds = Number(flag('--drain-ms')) / 1000
  t.ok(pod.terminationGracePeriodSeconds >= Number(seconds) + drainSeconds + 10)
  const { periodSeconds, failureThreshold } = container.readinessProbe
  t.ok(drainSeconds > periodSeconds * failureThreshold)
  t.match(pod.securityContext, { runAsNonRoot: true, runAsUser: 1000 })
  t.match(container.securityContext, {
    readOnlyRootFilesystem: true,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
  })
  t.equal(flag('--model'), container.volumeMounts[0].mountPath)
  t.equal(container.volumeMounts[0].name, pod.volumes[0].name)
  t.match(read('lib', 'cli', 'serve.ts'), `.env('${container.env[0].name}')`)
  t.equal(container.image, `moepp:${JSON.parse(read('package.json')).version}`)
})

t.test('Services, HPA and budget name the Deployment', async t => {
  const { metadata, spec } = manifest('deployment.yaml')
  const labels = spec.selector.matchLabels
  t.same(spec.template.metadata.labels, labels)
  const [service, pods] = manifests('service.yaml')
  for (const each of [service, pods]) {
    t.same(each.spec.selector, labels)
    t.equal(each.spec.ports[0].targetPort, 'http')
  }
  t.equal(pods.spec.clusterIP, 'None')
  t.same(manifest('pdb.yaml').spec.selector.matchLabels, labels)
  const { scaleTargetRef } = manifest('hpa.yaml').spec
  t.same(scaleTargetRef, { apiVersion: 'apps/v1', kind: 'Deployment', name: metadata.name })
})

t.test("the HPA's metric comes through the adapter, with Prometheus' labels", async t => {
  const [{ pods }] = manifest('hpa.yaml').spec.metrics
  const [rule] = manifest('prometheus-adapter-values.yaml').rules.custom
  const [, series, matchers] = /^(\w+)\{(.*)\}$/.exec(rule.seriesQuery) ?? []
  t.equal(series, pods.metric.name)
  const [, job] = parse(example('observability', 'prometheus.yml')).scrape_configs
  const rules: Record<string, unknown>[] = job.relabel_configs
  const labels = rules.map(({ target_label }) => target_label).filter(Boolean)
  t.same(
    matchers!.split(',').map(each => each.split('!')[0]),
    labels,
  )
  t.same(Object.keys(rule.resources.overrides), labels)
  const [name, port] = rules.map(({ regex }) => regex)
  t.equal(name, Object.values(manifest('deployment.yaml').spec.selector.matchLabels)[0])
  t.equal(port, manifests('service.yaml')[0].spec.ports[0].targetPort)
})

t.test('the container: port, health, rights and packages', async t => {
  const dockerfile = example('docker', 'Dockerfile')
  const { peerDependencies, bin } = JSON.parse(read('package.json'))
  t.match(dockerfile, `\nEXPOSE ${PORT}\n`)
  t.match(dockerfile, `http://127.0.0.1:${PORT}/health`)
  t.ok(routes.includes('/health'))
  t.match(dockerfile, /\nUSER 1000\n/)
  t.match(dockerfile, `"node_modules/moepp/${bin.moepp}", "serve", "--host", "0.0.0.0"`)
  const named = [...dockerfile.matchAll(/ ((?:@[a-z]+\/)?[a-z-]+)@(\^[\d.]+)/g)]
  // For `moepp routing`, which writes Parquet files.
  const { 'hyparquet-writer': _, ...ofServer } = peerDependencies
  t.same(Object.fromEntries(named.map(([, name, range]) => [name, range])), ofServer)
  const model = /CMD \["--model", "([^"]+)"\]/.exec(dockerfile)?.[1]
  const [container] = manifest('deployment.yaml').spec.template.spec.containers
  t.equal(model, container.volumeMounts[0].mountPath)
})

t.test('the balancers wait as long as the server, and take bodies as long', async t => {
  const nginx = example('nginx.conf')
  const seconds = (name: string) => Number(new RegExp(`${name} (\\d+)s;`).exec(nginx)?.[1])
  t.ok(seconds('proxy_read_timeout') * 1000 > DEFAULTS.deadlineMs)
  t.match(nginx, `client_max_body_size ${DEFAULTS.maxBodyBytes / 2 ** 20}m;`)
  t.match(nginx, /hash \$moepp_key consistent;/)
  const [listener] = parse(example('envoy.yaml')).static_resources.listeners
  const [cluster] = parse(example('envoy.yaml')).static_resources.clusters
  t.equal(listener.per_connection_buffer_limit_bytes, DEFAULTS.maxBodyBytes)
  const manager = listener.filter_chains[0].filters[0].typed_config
  t.ok(Number.parseInt(manager.stream_idle_timeout, 10) * 1000 > DEFAULTS.deadlineMs)
  const { route } = manager.route_config.virtual_hosts[0].routes.at(-1)
  t.equal(route.cluster, cluster.name)
  const [header] = Object.keys(prefixHeader({ prompt: 'a' }))
  t.equal(route.hash_policy[0].header.header_name, header)
  t.match(nginx, `$http_${header!.replaceAll('-', '_')}`)
  t.ok(routes.includes(cluster.health_checks[0].http_health_check.path))
  const { address } = cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint
  const [, pods] = manifests('service.yaml')
  t.same(address.socket_address, { address: pods.metadata.name, port_value: PORT })
})

t.test('the header of a prefix is that of all turns of a chat', async t => {
  const system = { role: 'system', content: 'Be brief.' }
  const first = { role: 'user', content: 'Who was Ahab?' }
  const answer = { role: 'assistant', content: 'A captain.' }
  const second = { role: 'user', content: 'Of what?' }
  const value = (...args: Parameters<typeof prefixHeader>) =>
    prefixHeader(...args)['x-moepp-prefix']
  const chat = value({ messages: [system, first] })
  t.match(chat, /^[0-9a-f]{16}$/)
  t.equal(value({ messages: [system, first, answer, second] }), chat)
  t.not(value({ messages: [system, second] }), chat)
  t.not(value({ messages: [first] }), chat)
  t.equal(value({ prompt: 'abcd' }, 3), value({ prompt: 'abce' }, 3))
  t.not(value({ prompt: 'abcd' }), value({ prompt: 'abce' }))
  t.not(value({ prompt: [1, 2] }), value({ prompt: [1, 3] }))
  t.match(value({}), /^[0-9a-f]{16}$/)
})
