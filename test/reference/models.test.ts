/** The golden models of MoE++. */
import { checkFamilies } from './check-families.js'

checkFamilies(['moepp'])
