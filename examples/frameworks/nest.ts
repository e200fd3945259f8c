// Nest on Express. `options` are those of sessionTokens(); `login` takes the place of a login in the test.
import 'reflect-metadata'
import {
  type ArgumentsHost,
  type CanActivate,
  Catch,
  Controller,
  createParamDecorator,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  Module,
  Post,
  SetMetadata,
  UseGuards,
} from '@nestjs/common'
import { NestFactory, Reflector } from '@nestjs/core'
import session from 'express-session'
import {
  type SessionTokens,
  type SessionTokensOptions,
  sessionTokens,
  TokenError,
  tokenErrors,
} from 'session-token-manager'

/** The scope that a route needs. */
const Scope = (scope: string) => SetMetadata('scope', scope)

/** The tokens of the request, for a parameter of a handler. */
const Tokens = createParamDecorator((_, context: ExecutionContext) => tokensOf(context))

const tokensOf = (context: ExecutionContext): SessionTokens => context.switchToHttp().getRequest().tokens

/** Lets a request pass that has a token for the scope of its route. */
class TokensGuard implements CanActivate {
  readonly #reflector = new Reflector()

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const scope = this.#reflector.get<string | undefined>('scope', context.getHandler())
    await tokensOf(context).getAccessToken(scope === undefined ? {} : { scope })
    return true
  }
}

/** Responds with a problem body. Without it, Nest responds with the status and the message. */
@Catch(TokenError)
class TokenErrorFilter implements ExceptionFilter {
  readonly #respond = tokenErrors()

  catch(error: TokenError, host: ArgumentsHost): void {
    const http = host.switchToHttp()
    this.#respond(error, http.getRequest(), http.getResponse(), http.getNext())
  }
}

@Controller()
class OrdersController {
  @Get('/orders')
  @UseGuards(TokensGuard)
  async orders(@Tokens() tokens: SessionTokens) {
    const { token } = await tokens.getAccessToken()
    return { token }
  }

  @Get('/bills')
  @UseGuards(TokensGuard)
  @Scope('bills.read')
  bills() {
    return []
  }

  @Post('/logout')
  async logout(@Tokens() tokens: SessionTokens) {
    await tokens.revoke()
    return {}
  }
}

@Module({ controllers: [OrdersController] })
class AppModule {}

interface Options {
  options: SessionTokensOptions
  login: (req: object, res: unknown, next: () => void) => unknown
  secret: string
}

export async function createApp({ options, login, secret }: Options) {
  const app = await NestFactory.create(AppModule, { logger: false })
  app.use(session({ secret, resave: false, saveUninitialized: false }))
  app.use(sessionTokens(options))
  app.use(login)
  app.useGlobalFilters(new TokenErrorFilter())
  return app
}
