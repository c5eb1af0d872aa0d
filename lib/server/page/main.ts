/** The playground's page: its parts, put together. */

import { detailsIn } from '../../page/details-view.js'
import { byId, element } from '../../page/dom.js'
import { themeButton } from '../../page/theme.js'
import { KeyNeeded, keepKey, modelFacts, modelIds } from './client.js'
import { coloursOf } from './colours.js'
import { settingsDrawer } from './drawer.js'
import { likeliest } from './likeliest.js'
import { Playground } from './playground.js'
import { settingsOf } from './settings-form.js'

/** Pixels from its end within which a conversation counts as read to the end. */
const NEAR_END = 48

const composer = byId('composer', HTMLFormElement)
const prompt = byId('prompt', HTMLTextAreaElement)
const sendButton = byId('send', HTMLButtonElement)
const status = byId('status', HTMLElement)
const model = byId('model', HTMLSelectElement)
const keyForm = byId('key-form', HTMLFormElement)
const key = byId('key', HTMLInputElement)
const turns = byId('turns', HTMLElement)
const settingsForm = byId('settings-form', HTMLFormElement)
const modes = [...document.querySelectorAll<HTMLInputElement>('input[name="mode"]')]
const [chatMode, completionMode] = modes as [HTMLInputElement, HTMLInputElement]
const openSettings = settingsDrawer()

const colours = coloursOf(turns, () => playground.recolour())

const playground: Playground = new Playground({
  turns,
  tokens: {
    shade: colours.shade,
    showDetails: detailsIn(byId('details', HTMLElement), likeliest),
  },
  model: () => model.value,
  settings: () => {
    // A closed drawer could not show the field.
    if (!settingsForm.checkValidity()) openSettings()
    return settingsOf(settingsForm)
  },
  onChange: (isRunning, text) => {
    status.textContent = text
    sendButton.textContent = isRunning ? 'Stop' : 'Send'
    sendButton.classList.toggle('is-running', isRunning)
    // The button that was pressed is gone.
    if (isRunning && document.activeElement === document.body) sendButton.focus()
  },
  onKeyNeeded: askForKey,
})

function askForKey(): void {
  keyForm.hidden = false
  key.focus()
}

function send(): void {
  if (prompt.value === '') {
    status.textContent = 'Write something first.'
    prompt.focus()
    return
  }
  byId('empty', HTMLElement).hidden = true
  if (playground.send(prompt.value, chatMode.checked) && chatMode.checked) prompt.value = ''
}

function showMode(): void {
  const isChat = chatMode.checked
  byId('prompt-label', HTMLElement).textContent = isChat ? 'Message' : 'Text to complete'
  byId('system-field', HTMLElement).hidden = !isChat
}

async function showModel(): Promise<void> {
  const { chats, expertsPerToken } = await modelFacts(model.value)
  colours.setMost(expertsPerToken)
  chatMode.disabled = !chats
  byId('no-chat', HTMLElement).hidden = chats
  if (!chats) completionMode.checked = true
  showMode()
}

/** Runs what may fail, and says so where it does. */
async function attempt(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (error instanceof KeyNeeded) askForKey()
    status.textContent = error instanceof Error ? error.message : String(error)
  }
}

const showModels = () =>
  attempt(async () => {
    const ids = await modelIds()
    model.replaceChildren(...ids.map(id => element('option', { value: id }, id)))
    if (ids.length === 0) throw new Error('The server has no model.')
    await showModel()
    status.textContent = ''
  })

/** A conversation that is read to its end stays there. */
function followEnd(scroll: HTMLElement): void {
  let isAtEnd = true
  scroll.addEventListener('scroll', () => {
    isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END
  })
  new MutationObserver(() => {
    if (isAtEnd) scroll.scrollTop = scroll.scrollHeight
  }).observe(turns, { childList: true, subtree: true, characterData: true })
}

composer.addEventListener('submit', event => {
  event.preventDefault()
  if (playground.isRunning) playground.stop()
  else send()
})
document.addEventListener('keydown', event => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !event.isComposing) {
    event.preventDefault()
    if (!playground.isRunning) send()
  }
  if (event.key === 'Escape') playground.stop()
})
byId('clear', HTMLButtonElement).addEventListener('click', () => {
  playground.clear()
  byId('empty', HTMLElement).hidden = false
  status.textContent = 'The conversation is cleared.'
  prompt.focus()
})
keyForm.addEventListener('submit', event => {
  event.preventDefault()
  keepKey(key.value)
  key.value = ''
  keyForm.hidden = true
  prompt.focus()
  showModels()
})
settingsForm.addEventListener('submit', event => event.preventDefault())
model.addEventListener('change', () => attempt(showModel))
for (const mode of modes) mode.addEventListener('change', showMode)
themeButton(byId('theme', HTMLButtonElement))
followEnd(byId('scroll', HTMLElement))
colours.setMost(undefined)
showMode()
prompt.focus()
showModels()
