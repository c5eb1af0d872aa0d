/** The golden models with latent attention. */
import { LATENT_FAMILIES } from '../support/golden.js'
import { checkFamilies } from './check-families.js'

checkFamilies(LATENT_FAMILIES)
