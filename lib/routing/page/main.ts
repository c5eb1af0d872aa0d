import { unpacked } from './data.js'

console.log(await unpacked(document.getElementById('data')!.textContent))
