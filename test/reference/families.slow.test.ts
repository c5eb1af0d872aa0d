/** The golden models of the other families. */
import { FAMILIES, isLatentFamily } from '../support/golden.js'
import { checkFamilies } from './check-families.js'

checkFamilies(FAMILIES.filter(family => family !== 'moepp' && !isLatentFamily(family)))
