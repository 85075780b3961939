import { application } from '../../tsup.base.js'

export default application({ fromSource: true })
