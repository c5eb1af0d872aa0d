/** The one model that the server has. */
import type { FastifyInstance } from 'fastify'
import type { ServerContext } from '../context.js'
import { RequestError } from '../errors.js'

export function modelRoutes(app: FastifyInstance, context: ServerContext): void {
  const model = modelObject(context)
  app.get('/v1/models', () => ({ object: 'list', data: [model] }))
  // A name may have slashes, as a hub's have.
  app.get<{ Params: { '*': string } }>('/v1/models/*', ({ params }) => {
    checkModel(params['*'], context)
    return model
  })
}

/** @throws RequestError 404 if a request names another model */
export function checkModel(name: unknown, { options: { modelName } }: ServerContext): void {
  if ((name ?? modelName) === modelName) return
  const message = `model: this server has ${JSON.stringify(modelName)}, got ${JSON.stringify(name)}`
  throw new RequestError(404, 'not_found_error', message, {
    param: 'model',
    code: 'model_not_found',
  })
}

function modelObject({ model, options: { modelName }, created }: ServerContext): object {
  return {
    id: modelName,
    object: 'model',
    created,
    owned_by: 'moepp',
    root: modelName,
    max_model_len: model.contextLength,
    experts_per_token: model.config.topK,
    capabilities: { chat: hasTemplate(model) },
  }
}

function hasTemplate({ tokenizer }: ServerContext['model']): boolean {
  return tokenizer.anyTemplate.templates.size > 0
}
